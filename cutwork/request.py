"""What may be asked of the provider: the fields of its form, checked before anybody pays.

A request lives twice. ``Segmentation`` is what an app asks, with a picture that may still be a
path or an open file, and it is checked when it is made. ``Request`` is what a job row says was
asked: its picture is in storage already, so reading it back checks nothing and touches no disk.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from functools import lru_cache
from hashlib import sha256
from typing import Any

from cutwork import pictures, sources
from cutwork.errors import InvalidInput

TYPES = ("person", "object", "stamp")
FORMATS = ("png", "jpg")
OUTPUTS = {1: ("image", "mask"), 2: ("image",), 3: ("mask",)}


@dataclass(frozen=True, slots=True)
class StoredPicture:
    """A source picture in our own storage: where it is and what it is; ``size`` in bytes."""

    uri: str
    sha256: str
    size: int
    format: str
    width: int
    height: int

    @classmethod
    def of(cls, picture: pictures.Picture, uri: str) -> "StoredPicture":
        """The examined picture, after it was put at ``uri``."""
        size, form = len(picture.data), picture.format
        return cls(uri, picture.sha256, size, form, picture.width, picture.height)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the foreground is to be cut out: the form's fields without the source."""

    type: str = ""
    output_type: int = 2
    crop: bool = False
    format: str = "png"
    bg_color: str | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """The files that the provider is to make: ``image``, ``mask``, or both."""
        return OUTPUTS[self.output_type]

    def fields(self) -> dict[str, str]:
        """The provider's form fields, as texts; the source is not among them."""
        form = {
            "output_type": str(self.output_type),
            "crop": str(int(self.crop)),
            "format": self.format,
        }
        if self.type:
            form["type"] = self.type
        if self.bg_color is not None:
            form["bg_color"] = self.bg_color
        return form


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Options):
    """What a job row says was asked; exactly one of ``image_url`` and ``image_file`` is set."""

    image_url: str | None = None
    image_file: StoredPicture | None = None

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "Request":
        """Read what ``to_json`` wrote; keys of a later version are left alone."""
        known = {name: row[name] for name in _DEFAULTS if name in row}
        if picture := known.get("image_file"):
            known["image_file"] = StoredPicture(**{name: picture[name] for name in _PICTURE})
        return cls(**known)

    @classmethod
    def checked(cls, row: Any) -> "Request":
        """``from_json`` of what may have been written by hand, in plain SQL.

        Raises:
            InvalidInput: it breaks the rules of ``Segmentation``.
        """
        try:
            made = cls.from_json(row)
        except (AttributeError, IndexError, KeyError, TypeError):
            kind = type(row).__name__  # not the row: a link's query may be a signature
            raise InvalidInput("request", kind, "must be an object of known fields") from None
        if made.image_file is None:
            sources.check_url(made.image_url)
        _check_options(made)
        return made

    def to_json(self) -> dict[str, Any]:
        """A plain dict for a JSON column, with the one source that is set."""
        row = {name: getattr(self, name) for name in _DEFAULTS}
        del row["image_url" if self.image_url is None else "image_file"]
        if self.image_file is not None:
            row["image_file"] = asdict(self.image_file)
        return row


def outputs_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """``Request.from_json(row).outputs``, for whoever needs nothing else of it."""
    return OUTPUTS[row.get("output_type", _DEFAULTS["output_type"])]


_PICTURE = tuple(item.name for item in fields(StoredPicture))
_OPTIONS = tuple(item.name for item in fields(Options))
_DEFAULTS = {item.name: item.default for item in fields(Request)}
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmentation(Options):
    """One picture to cut out, and how.

    Args:
        image_url: where the provider fetches the picture; at most 512 characters.
        image_file: a path, the bytes, or a binary file (read from where it stands); at most 15 MB
            and 4096 px a side; jpg, png, bmp, webp or tiff.
        type: the foreground: ``person``, ``object``, ``stamp``, or empty to let the provider see.
        output_type: 1 picture and mask, 2 picture, 3 mask.
        crop: cut the result to the edges of the subject.
        format: ``png`` (transparent) or ``jpg`` (on a colour).
        bg_color: the colour behind a jpg, as six hex digits; white if it is not given.

    Raises:
        InvalidInput: a field breaks the provider's rules.
    """

    image_url: str | None = None
    image_file: sources.Source | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _check_sources(self.image_url, self.image_file)
        crop, bg_color = _check_options(self)
        object.__setattr__(self, "crop", crop)
        object.__setattr__(self, "bg_color", bg_color)

    def read_picture(self) -> pictures.Picture:
        """Read and examine ``image_file``; a file object can be read only once.

        Raises:
            InvalidInput: it cannot be read, or is no picture that the provider takes.
        """
        if self.image_file is None:
            raise InvalidInput("image_file", None, "must be set to be read")
        return pictures.examine(sources.read_file(self.image_file, pictures.MAX_BYTES))

    def stored(self, picture: StoredPicture | None = None) -> Request:
        """The request as a job row keeps it; ``picture`` is where image_file was put."""
        self._check_pair(picture)
        options = {name: getattr(self, name) for name in _OPTIONS}
        return Request(**options, image_url=self.image_url, image_file=picture)

    def to_json(self, picture: StoredPicture | None = None) -> dict[str, Any]:
        """``stored(picture)`` as a plain dict for a JSON column."""
        if picture is not None or self.image_url is None:
            return self.stored(picture).to_json()
        row = {name: getattr(self, name) for name in _OPTIONS}
        row["image_url"] = self.image_url
        return row

    def digest(self, picture: pictures.Picture | StoredPicture | None = None) -> str:
        """64 hex digits that are equal when the same thing is asked of the same picture."""
        self._check_pair(picture)
        name, source = "image_url", self.image_url
        if picture is not None:
            name, source = "image_file", picture.sha256
        options = (self.type, self.output_type, self.crop, self.format, self.bg_color)
        before, after = _around(name, *options)
        return sha256(f"{before}{_canonical(source)}{after}".encode()).hexdigest()

    def _check_pair(self, picture: object) -> None:
        if (picture is None) != (self.image_file is None):
            raise InvalidInput("picture", picture, "must be given with image_file, and only then")


@lru_cache  # many pictures, few ways to cut them
def _around(source: str, *options: Any) -> tuple[str, str]:
    """The text that is digested, up to the source's value and from there on."""
    given = zip(_OPTIONS, options, strict=True)
    asked = {name: value for name, value in given if value != _DEFAULTS[name]}
    before, _, after = _canonical({**asked, source: "?"}).partition('"?"')
    return before, after


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The fields in which two requests, as ``to_json`` writes them, ask for different things."""
    before, after = _identity(old), _identity(new)
    return sorted(name for name in before.keys() | after if before.get(name) != after.get(name))


def _identity(row: Mapping[str, Any]) -> dict[str, Any]:
    # Defaults are left out: a field that a later version adds must not change old digests.
    given = {
        name: row[name] for name, default in _DEFAULTS.items() if row.get(name, default) != default
    }
    if picture := given.get("image_file"):
        given["image_file"] = picture["sha256"]
    return given


def _check_sources(url: object, file: object) -> None:
    if url is None and file is None:
        raise InvalidInput("image_url", None, "or image_file must be given")
    if url is not None and file is not None:
        raise InvalidInput("image_url", "both", "excludes image_file", "give one of the two")
    if url is None:
        sources.check_file(file)
    else:
        sources.check_url(url)


def _check_options(options: Options) -> tuple[bool, str | None]:
    """Gives ``crop`` and ``bg_color`` in the one form that they are kept in."""
    _check_word("type", options.type, ("", *TYPES))
    _check_word("format", options.format, FORMATS)
    _check_output_type(options.output_type)
    return _as_bool(options.crop), _as_color(options.bg_color, options.format)


def _check_word(name: str, value: object, words: tuple[str, ...]) -> None:
    if isinstance(value, str) and value in words:
        return
    near = get_close_matches(str(value).lower(), [word for word in words if word], 1)
    rule = "must be one of " + ", ".join(word or "'' (detect)" for word in words)
    raise InvalidInput(name, value, rule, f"did you mean {near[0]!r}?" if near else "")


def _check_output_type(value: object) -> None:
    if type(value) is not int or value not in OUTPUTS:
        rule = "must be 1 (picture and mask), 2 (picture) or 3 (mask)"
        raise InvalidInput("output_type", value, rule)


def _as_bool(value: object) -> bool:
    if not isinstance(value, int) or value not in (0, 1):
        raise InvalidInput("crop", value, "must be True or False")
    return bool(value)


def _as_color(value: object, form: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not re.fullmatch(r"#?[0-9a-fA-F]{6}", value):
        raise InvalidInput("bg_color", value, "must be six hex digits", "write white as 'ffffff'")
    if form != "jpg":
        raise InvalidInput(
            "bg_color", value, f"goes only with format 'jpg', not {form!r}", "set format='jpg'"
        )
    return value.removeprefix("#").lower()
