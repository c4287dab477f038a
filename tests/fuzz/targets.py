"""What is fuzzed: for each parser its seeds, and what must hold whatever the bytes are."""

import json
import struct
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from io import BytesIO
from ipaddress import ip_address
from typing import Any
from uuid import UUID

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from requests import Response
from urllib3 import HTTPResponse
from urllib3.util import parse_url

from cutwork import callbacks, fetching, form, probe, provider
from cutwork.addresses import Guard, Refused, blocked
from cutwork.bare import strip
from cutwork.errors import InvalidInput, InvalidSetting
from cutwork.pictures import MAX_RESULT_PIXELS, MAX_SIDE, Shape, examine, inspect_result
from cutwork.reading import LINE_LENGTH, parse
from cutwork.reply import MAX_RETRY_AFTER, Reply
from cutwork.report import Report, Verdict, failure
from cutwork.settings import Settings
from cutwork.webhook import body

SECRETS = ("the secret that signs", "the secret of last year")
KEY = "sk-Secret!"
_JOB, _NOW = UUID("0198c0de-0000-7000-8000-000000000001"), 1_800_000_000
_TOKENS = [callbacks.mint(secret, _JOB, 1, _NOW + 60) for secret in SECRETS]
_TASK = {"state": 1, "task_id": "task-1", "image": "https://results.example/cut.png?Signature=x"}
_LIMIT = 4096
_PROBES = [probe.mint(secret, _NOW + 60) for secret in SECRETS]
_SEEN = probe.Seen(_NOW + 0.25, "POST", "/callbacks/c", "a=1", probe.fingerprint(b"{}"))
_ANSWER = probe.answer(SECRETS[0], _PROBES[0], _SEEN)
_FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Target:
    """``check`` raises when a property does not hold; ``seeds`` are where the search begins."""

    check: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]


def callback(data: bytes) -> None:
    """A first line with how it is sent, the content type and the query; then the body."""
    head, _, content = data.partition(b"\n")
    sent, kind, query = [*head.decode("latin-1").split("|"), "", "", ""][:3]
    try:
        taken = body.read(_environ(sent, content), _LIMIT)
    except body.Refused as error:
        taken, status = content, error.status
    else:
        status = ""
        assert content.startswith(taken)
        assert len(taken) <= _LIMIT
    assert status[:3] in ("", "400", "411", "413", "415")
    told = callbacks.read(taken, kind, query)
    if told is not None:
        assert parse(json.dumps(told)) is not None
    _check_report(told)


def token(data: bytes) -> None:
    """As it is; as changed bits of a good one; and as a payload that was signed."""
    assert callbacks.verify(SECRETS, data.decode("latin-1"), now=_NOW) is None or (
        data.decode("latin-1") in _TOKENS
    )
    for good in _TOKENS:
        changed = _bent(good, data)
        accepted = callbacks.verify(SECRETS, changed, now=_NOW) is not None
        assert accepted is (changed == good)
    job, attempt, expires = struct.unpack(">16sII", data[:24].ljust(24, b"\0"))
    signed = callbacks.mint(SECRETS[0], UUID(bytes=job), attempt, expires)
    claim = callbacks.verify(SECRETS, signed, now=_NOW)
    assert claim == (callbacks.Claim(UUID(bytes=job), attempt) if expires > _NOW else None)


def probing(data: bytes) -> None:
    """A token and an answer, as they are and as changed bits of good ones; and what was seen."""
    text = data.decode("latin-1")
    assert probe.signer(SECRETS, text, now=_NOW) is None or text in _PROBES
    for secret, good in zip(SECRETS, _PROBES, strict=True):
        changed = _bent(good, data)
        signer = probe.signer(SECRETS, changed, now=_NOW)
        assert signer == (secret if changed == good else None)
        assert callbacks.verify(SECRETS, changed, now=_NOW) is None
    flips = data[: len(_ANSWER)].ljust(len(_ANSWER), b"\0")
    for told in (data, bytes(one ^ other for one, other in zip(_ANSWER, flips, strict=True))):
        answer = parse(told)
        if isinstance(answer, dict):
            assert probe.read(SECRETS[0], _PROBES[0], answer) in (None, _SEEN)
    path, _, query = text.partition("?")
    seen = probe.Seen(_NOW, "GET", path[:2000], query[:2000], "413")
    answer = parse(probe.answer(SECRETS[0], _PROBES[0], seen))
    assert isinstance(answer, dict)
    assert probe.read(SECRETS[0], _PROBES[0], answer) == seen
    assert probe.read(SECRETS[1], _PROBES[0], answer) is None
    assert probe.read(SECRETS[0], _PROBES[1], answer) is None


def reply(data: bytes) -> None:
    """A first line with the status, Retry-After and Date; then the body."""
    head, _, content = data.partition(b"\n")
    status, after, date = [*head.decode("latin-1").split("|"), "", "", ""][:3]
    response = Response()
    response.status_code = int(status) if status in ("200", "201", "404", "429", "503") else 400
    response.headers.update({"Retry-After": after, "Date": date})
    response.raw = HTTPResponse(BytesIO(content), preload_content=False)
    got = Reply.read(response, (KEY,))
    assert got.text.isprintable()
    assert len(got.text) <= LINE_LENGTH
    assert KEY.lower() not in got.text.lower()
    assert got.retry_after is None or 0 <= got.retry_after <= MAX_RETRY_AFTER
    outcome = provider._submitted(got, (), (KEY,))
    if isinstance(outcome, provider.Accepted | provider.Done):
        assert got.fine
    if isinstance(outcome, provider.Rejected):
        told = Report.read(got.payload)
        assert told is None or not told.task_id
    answer = provider._answered(got, "task-1", (), (KEY,))
    if isinstance(answer, Report):
        assert got.fine
        assert answer.task_id in (None, "task-1")
    _check_report(got.payload)


def picture(data: bytes) -> None:
    """As it is, and with the checksums that a PNG needs to be read on."""
    for made in {data, _with_checksums(data)}:
        shape = inspect_result(made)
        if isinstance(shape, Shape):
            assert 0 < shape.width * shape.height <= MAX_RESULT_PIXELS
            _compare(shape, made)
        try:
            examined = examine(made)
        except InvalidInput:
            continue
        assert max(examined.width, examined.height) <= MAX_SIDE
        if isinstance(shape, Shape):
            assert (shape.width, shape.height) == (examined.width, examined.height)


def bare(data: bytes) -> None:
    """As it is, whatever it is said to be, and with the checksums that a PNG needs."""
    for made in {data, _with_checksums(data)}:
        for name in (*_FORMATS, "gif"):
            assert len(strip(made, name)) <= len(made) + 64
        shape = inspect_result(made)
        if isinstance(shape, Shape) and shape.format in _FORMATS:
            _compare_bare(shape, made)


def address(data: bytes) -> None:
    """A link that is let through leads to where the HTTP client will go; and an IP address."""
    url = data.decode("latin-1")
    settings = Settings(result_hosts=("results.example", "10.0.0.1:8080", "[2001:db8::1]"))
    if fetching._refusal(url, settings) is None:
        led = parse_url(url)
        named = {f"{led.host}", f"{led.host}:{led.port}"}
        assert named & settings.allowed_hosts, (url, led)
    try:
        found = ip_address(url.partition("%")[0])
    except ValueError:
        return
    if not blocked(found):
        assert found.is_global
        assert not found.is_multicast
    try:
        Guard().admit("results.example", [url])
    except Refused:
        assert blocked(found)
    else:
        assert not blocked(found)


def setting(data: bytes) -> None:
    """The name of a setting, ``=``, and its value as the environment would give it."""
    name, _, value = data.decode("utf-8", "surrogateescape").partition("=")
    metadata = {item.name: item.metadata for item in fields(Settings)}
    if name not in metadata:
        return
    try:
        made = Settings.of(**{name: value})
    except InvalidSetting as error:
        said = str(error)
    else:
        said = ""
        _use(made)
    # A short value may be a word of the sentence.
    assert not metadata[name]["secret"] or len(value) < 40 or value not in said


def _use(settings: Settings) -> None:
    """Whatever was accepted can be worked with."""
    assert settings.database
    assert settings.broker
    assert settings.storage
    assert settings.allowed_hosts
    assert all(len(name) == 8 for name in settings.keys)
    for key in filter(form.sendable, settings.api_tokens):
        form.question(settings, key, "task")
    if settings.callback_secrets:
        minted = callbacks.mint(settings.callback_secrets[0], _JOB, 1, _NOW + 1)
        assert callbacks.verify(settings.callback_secrets, minted, now=_NOW)
    if settings.public_url:
        parse_url(settings.public_url)
    Guard(settings.result_networks).admit("results.example", ["8.8.8.8"])


def _environ(sent: str, content: bytes) -> dict[str, Any]:
    encoding = {"gzip": "gzip"}.get(sent, "")
    environ = {"wsgi.input": BytesIO(content), "HTTP_CONTENT_ENCODING": encoding}
    if sent == "chunked":
        return {**environ, "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    return {**environ, "CONTENT_LENGTH": str(len(content)) if sent == "whole" else sent}


def _check_report(told: object) -> None:
    report = Report.read(told, hide=(KEY,))
    if report is None:
        return
    assert KEY.lower() not in report.detail.lower()
    failed = report.state is not None and report.state < 0
    assert (report.verdict is Verdict.FAILED) is failed
    if failed and report.state is not None:
        assert failure(report.state).code == f"provider_{report.state}"
    if report.verdict is Verdict.DONE:
        assert report.state == 1
        assert report.has(())
    stored = json.dumps(report.to_json(), allow_nan=False)
    stored.encode()
    assert Report.from_json(json.loads(stored)) == report


def _compare(shape: Shape, data: bytes) -> None:
    """A decoder that opens it finds the same size; a large canvas it is not asked to set up."""
    if shape.width * shape.height > 1_000_000:
        return
    name = {"jpg": "JPEG"}.get(shape.format, shape.format.upper())
    try:
        with Image.open(BytesIO(data), formats=[name]) as opened:
            opened.load()
            size = opened.size
    except Exception:  # noqa: BLE001 - a decoder may refuse, in many ways, what we only measured
        return
    assert size == (shape.width, shape.height), (size, shape)


def _compare_bare(shape: Shape, data: bytes) -> None:
    """A decoder that opens it finds the same pixels in the bare file, and nobody's words."""
    if shape.width * shape.height > 1_000_000:
        return
    kind = [_FORMATS[shape.format]]
    try:
        with Image.open(BytesIO(data), formats=kind) as opened:
            opened.load()
    except Exception:  # noqa: BLE001 - a decoder may refuse, in many ways, what we only measured
        return
    made = strip(data, shape.format)
    assert strip(made, shape.format) == made
    with Image.open(BytesIO(made), formats=kind) as cut:
        try:
            cut.load()
        except SyntaxError:  # of frames in disorder, which the decoder did not come to before
            assert b"fdAT" in data
            return
        assert (cut.mode, cut.size) == (opened.mode, opened.size)
        assert cut.tobytes() == opened.tobytes()
        assert set(cut.getexif()) <= {_ORIENTATION}
        assert not {"xmp", "comment", "photoshop", "XML:com.adobe.xmp"} & set(cut.info)
        assert not getattr(cut, "text", {})


def _bent(token: str, flips: bytes) -> str:
    """The token with these bits changed."""
    raw = urlsafe_b64decode(token)
    pairs = zip(raw, flips[: len(raw)].ljust(len(raw), b"\0"), strict=True)
    return urlsafe_b64encode(bytes(one ^ other for one, other in pairs)).decode()


def _with_checksums(data: bytes) -> bytes:
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return data
    mended, at = bytearray(data), 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        mended[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(mended)


def _callbacks() -> Iterable[bytes]:
    told = json.dumps(_TASK).encode()
    yield b"whole|application/json|\n" + told
    yield b"whole||\n" + json.dumps({"status": 200, "data": _TASK}).encode()
    yield b"chunked||\n" + told
    yield b"chunked||\nstate=1&task_id=task-1"
    yield b"gzip||\n\x1f\x8b"
    yield b"+2||\n{}"
    yield b"1073741824||\n{}"
    yield b"whole||\n\xef\xbb\xbfstatus=200&data[state]=-7&data[task_id]=task-1&data[err_info]=no"
    yield b"whole||state=1&image=https%3A%2F%2Fr.example%2Fa.png\n"
    yield b'whole|text/plain; charset="gb18030"|\nstate=4&state_detail=\xd6\xd0'
    part = b'--b\r\nContent-Disposition: form-data; name="state"\r\n\r\n4\r\n--b--'
    yield b'whole|multipart/form-data; boundary="b"|\n' + part
    yield b"\xff\xfe".join([b"whole||\n", '{"state":"4"}'.encode("utf-16-le")])
    yield b"whole||\nstatus=\x1c1&data[state]=-7"
    for text in (b'{"a": 1, "a": 2}', b'{"a": NaN}', b'{"a": 1e999}', b"[" * 2000):
        yield b"whole||\n" + text


def _tokens() -> Iterable[bytes]:
    yield from (one.encode() for one in _TOKENS)
    yield bytes(45)
    yield b"\1" + bytes(44)
    yield _JOB.bytes + struct.pack(">II", 7, _NOW + 1)


def _replies() -> Iterable[bytes]:
    told = json.dumps({"status": 200, "message": "success", "data": _TASK}).encode()
    yield b"200||\n" + told
    yield b"201||\n" + json.dumps({"task_id": "task-1"}).encode()
    yield b'429|120|\n{"error": {"code": "rate_limit_exceeded", "message": "sk-Secret!"}}'
    date = b"Wed, 21 Oct 2026 07:28:00 GMT"
    yield b"503|" + date + b"|" + date + b"\n<html>busy</html>"
    yield b"404||\n<h1>no such page</h1>"
    yield b'200||\n{"status": 401, "message": "invalid key sk-\\nSecret!"}'
    yield b'200||\n{"data": {"state": -7, "state_detail": "no", "err_info": "picture"}}'


def _pictures() -> Iterable[bytes]:
    image = Image.effect_noise((16, 12), 90)
    options: list[tuple[str, str, dict[str, Any]]] = [
        ("PNG", "RGBA", {}), ("PNG", "P", {}), ("PNG", "1", {}), ("JPEG", "RGB", {}),
        ("JPEG", "L", {"progressive": True}), ("WEBP", "RGB", {}), ("WEBP", "RGBA", {}),
        ("WEBP", "RGB", {"lossless": True}), ("BMP", "RGB", {}), ("TIFF", "RGB", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}), ("GIF", "P", {}),
    ]  # fmt: skip
    for kind, mode, more in options:
        out = BytesIO()
        image.convert(mode).save(out, kind, **more)
        yield out.getvalue()
    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 1)
    claims = b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + header + struct.pack(">I", zlib.crc32(header))
    yield claims + b"\0\0\0\0IEND\xaeB`\x82"


def _probes() -> Iterable[bytes]:
    yield from (one.encode() for one in _PROBES)
    yield bytes(45)
    yield b"\1" + bytes(44)
    yield _ANSWER
    yield json.dumps({"probe": "cutwork", "proof": "\ud800"}).encode()
    yield b'{"a":' * 900 + b"1" + b"}" * 900
    yield b"/callbacks/c?state=1\xff"


def _telling() -> Iterable[bytes]:
    """Pictures with all that a bare one is to lose."""
    yield from _pictures()
    image, told, text = Image.effect_noise((16, 12), 90).convert("RGB"), Image.Exif(), PngInfo()
    told.update({_ORIENTATION: 6, 0x010F: "a camera"})
    told.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.6)})
    text.add_text("Comment", "somebody's")
    text.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta/>")
    xmp = {"exif": told, "xmp": b"<x:xmpmeta/>"}
    options: list[tuple[str, dict[str, Any]]] = [
        ("PNG", {"exif": told, "pnginfo": text, "dpi": (300, 300)}),
        ("PNG", {"exif": told, "save_all": True, "append_images": [image.rotate(90)]}),
        ("JPEG", {**xmp, "comment": "somebody's", "progressive": True}), ("WEBP", xmp),
        ("WEBP", {**xmp, "save_all": True, "append_images": [image.rotate(180)]}),
    ]  # fmt: skip
    for kind, more in options:
        out = BytesIO()
        image.save(out, kind, **more)
        yield out.getvalue()
    # A canvas behind the end that the file gives itself.
    yield b"RIFF\x04\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(10)


def _addresses() -> Iterable[bytes]:
    yield b"https://results.example/cut.png?Signature=x"
    yield b"https://results.example:443/cut.png"
    yield b"http://10.0.0.1:8080/cut.png"
    yield b"https://[2001:db8::1]/cut.png"
    yield rb"https://results.example\@evil.example/"
    yield b"https://evil.example#@results.example/"
    yield b"https://user:word@results.example/"
    yield b"https://results.example%2f.evil.example/"
    yield from b"8.8.8.8 127.0.0.1 ::ffff:7f00:1 64:ff9b::1 2606:4700::1111 fe80::1%eth0".split()


def _settings() -> Iterable[bytes]:
    values = {
        "api_url": "https://api.example:8443/v1", "public_url": "https://hooks.example/a",
        "api_tokens": "sk-one, sk-two", "callback_secrets": f"{SECRETS[0]},{SECRETS[1]}",
        "result_hosts": "results.example,cdn.internal:80", "result_networks": "10.20.0.0/16",
        "api_auth": "x-api-key", "query_path": "/task/{task_id}", "rate": "2.5",
        "callback_max_body": "65536", "home": "/srv/cutwork", "storage_url": "file:///srv",
    }  # fmt: skip
    for item in fields(Settings):
        yield f"{item.name}={values.get(item.name, '7')}".encode()
        if item.name in values:
            yield f"{item.name}={values[item.name]}".encode() + b"\xff"


TARGETS = {
    "address": Target(address, _addresses),
    "bare": Target(bare, _telling),
    "callback": Target(callback, _callbacks),
    "picture": Target(picture, _pictures),
    "probe": Target(probing, _probes),
    "reply": Target(reply, _replies),
    "setting": Target(setting, _settings),
    "token": Target(token, _tokens),
}
