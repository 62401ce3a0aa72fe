"""A service put into the text of a compose file that someone wrote by hand. Pure.

It gets what its neighbour has, one that runs a module of `services` too, so that image, networks and anchors
are right; without such a one, what compose needs and no more. What is not plain enough is left alone.
"""

import re
from typing import Final

_TOP: Final = re.compile(r"^services:[ \t]*(?:#.*)?$", re.MULTILINE)
_NEXT: Final = re.compile(r"^[^\s#]", re.MULTILINE)
_MODULE: Final = re.compile(r"services\.(\w+)")
# what two can't both have
_OWN: Final = re.compile(r"^\s*(?:container_name|ports|hostname|<<: *\*\w+ *#)", re.MULTILINE)
# the lines of its volumes; each volume begins with a dash
_VOLUMES: Final = re.compile(
    r"^(?P<indent> *)volumes:(?P<said>.*(?:\n(?P=indent) *(?:- |  ).*|\n)*)", re.MULTILINE
)
_READ_ONLY: Final = re.compile(r"\bread_only: *true\b|:ro\b")


def entry(svc: str, module: str) -> str:
    """The service, as it stands under `services:`, indented by two."""
    return (
        f"  {svc}:\n"
        "    build: .\n"
        f'    command: ["python", "-m", "services.{module}"]\n'
        "    restart: unless-stopped\n"
    )


def with_service(text: str, svc: str, module: str) -> str | None:
    """The text with that service as the last; None when it has it, or is not plain enough to be sure."""
    top = _TOP.search(text)
    if top is None or "\t" in text:
        return None
    after = _NEXT.search(text, top.end())
    end = after.start() if after else len(text)
    block = text[top.end() : end]
    names = re.findall(r"^( +)([\w.-]+):[ \t]*(?:#.*)?$", block, re.MULTILINE)
    if not names or any(name == svc for _, name in names):
        return None
    indent = min((spaces for spaces, _ in names), key=len)
    lines = block.rstrip()
    made = _like_a_neighbour(lines, indent, svc, module)
    if made is None:
        made = "".join(indent + line[2:] for line in entry(svc, module).splitlines(keepends=True))
    rest = text[top.end() + len(lines) :].lstrip("\n")
    return f"{text[: top.end()]}{lines}\n\n{made.rstrip()}\n" + (f"\n{rest}" if rest else "")


def _like_a_neighbour(block: str, indent: str, svc: str, module: str) -> str | None:
    """The first entry that runs a module of `services`, renamed; none that has what two can't both have."""
    starts = [match.start() for match in re.finditer(rf"^{indent}\S", block, re.MULTILINE)]
    for start, end in zip(starts, [*starts[1:], len(block)], strict=True):
        found = block[start:end].rstrip()
        name, runs = found.split(":", 1)[0].strip(), _MODULE.search(found)
        if runs is None or name.startswith(("#", "x-")) or runs[1] != name.replace("-", "_"):
            continue
        if _OWN.search(found) or not _volumes_may_be_shared(found):
            continue
        made = _MODULE.sub(f"services.{module}", found).removeprefix(indent + name)
        return indent + svc + _with_own_folders(made, name, svc)
    return None


def _volumes_may_be_shared(entry: str) -> bool:
    """Whether nothing is written to any of its volumes, as far as can be seen."""
    found = _VOLUMES.search(entry)
    volumes = re.split(r"^ *- ", found["said"], flags=re.MULTILINE) if found else [""]
    return not volumes[0].strip() and all(_READ_ONLY.search(volume) for volume in volumes[1:])


def _with_own_folders(entry: str, name: str, svc: str) -> str:
    """What is called as the neighbour is in a volume is the neighbour's: the new one has its own."""
    word = re.compile(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])")
    return _VOLUMES.sub(lambda volumes: word.sub(svc, volumes[0]), entry)
