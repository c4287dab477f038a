"""The provider as a model in memory: what it was sent, what it made, what it charged."""

from dataclasses import dataclass, field
from itertools import count
from uuid import UUID

from cutwork.report import Report, Verdict


@dataclass
class Task:
    task_id: str
    job_id: UUID
    number: int
    state: int = 4
    final: Report | None = None

    @property
    def charged(self) -> bool:
        return self.state == 1

    def report(self) -> Report:
        if self.final is not None:
            return self.final
        return Report(Verdict.PENDING, state=self.state, task_id=self.task_id)

    def finish(self, state: int) -> None:
        self.state = state
        link = f"http://127.0.0.1:9/{self.task_id}.png" if state == 1 else None
        verdict = Verdict.DONE if state == 1 else Verdict.FAILED
        self.final = Report(verdict, state=state, task_id=self.task_id, image=link)


@dataclass
class ProviderModel:
    """Each accepted POST is a task; nobody can take it back."""

    tasks: dict[str, Task] = field(default_factory=dict)
    _names: count = field(default_factory=lambda: count(1))  # type: ignore[type-arg]

    def accept(self, job_id: UUID, number: int) -> Task:
        task = Task(f"task-{next(self._names)}", job_id, number)
        self.tasks[task.task_id] = task
        return task

    def of(self, job_id: UUID) -> list[Task]:
        return [task for task in self.tasks.values() if task.job_id == job_id]

    def charges(self, job_id: UUID) -> int:
        return sum(task.charged for task in self.of(job_id))
