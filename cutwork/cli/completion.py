"""``cutwork completion``: the script that lets a shell complete commands and options."""

import click
from click.shell_completion import get_completion_class

_ADVICE = {
    "bash": 'eval "$(cutwork completion bash)"  # in ~/.bashrc',
    "zsh": 'eval "$(cutwork completion zsh)"  # in ~/.zshrc',
    "fish": "cutwork completion fish | source  # in ~/.config/fish/config.fish",
}


@click.command(epilog="\b\n" + "\n".join(_ADVICE.values()))
@click.argument("shell", type=click.Choice(list(_ADVICE)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands and options in your shell."""
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click has no completion for {shell}")
    click.echo(kind(ctx.find_root().command, {}, "cutwork", "_CUTWORK_COMPLETE").source())
