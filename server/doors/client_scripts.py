"""Serves scripts without comments, which saves a quarter of the bytes.

There is no build step, and line numbers stay, so a browser's stack trace names the lines of the source. Only lines that
are nothing but comment become empty; `tests/server/doors/test_client_scripts.py` compares every script with its source.
Runs on the event loop. The files are few and small: they are listed once, at the start, and each is read once.
"""

from __future__ import annotations

from pathlib import Path

from aiohttp import ETag, web

# Third-party scripts are served unchanged, with their notices.
_VENDOR = "vendor"


class ClientScripts:
    """Serves `*.js` below `folder`. Add it before the static route, which serves everything else there."""

    def __init__(self, folder: Path) -> None:
        folder = folder.resolve()
        # Strangers may ask for any name, so a request looks a name up and never looks at the disk for it.
        self._scripts = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.js")}
        self._served: dict[Path, tuple[str, str]] = {}

    def add_routes(self, router: web.UrlDispatcher, prefix: str) -> None:
        router.add_get(prefix + r"{path:.+\.js}", self._serve)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        path = self._scripts.get(request.match_info["path"])
        if path is None or not path.is_file():  # deleted meanwhile
            raise web.HTTPNotFound
        facts = path.stat()
        tag = f"{facts.st_mtime_ns:x}-{facts.st_size:x}"
        if any(wanted.value == tag for wanted in request.if_none_match or ()):
            return web.Response(status=304, headers={"ETag": f'"{tag}"'})
        served_tag, text = self._served.get(path, ("", ""))
        if served_tag != tag:
            text = path.read_text(encoding="utf-8")
            if _VENDOR not in path.parts:
                text = without_comments(text)
            self._served[path] = (tag, text)
        response = web.Response(text=text, content_type="text/javascript")
        response.etag = ETag(tag)
        return response


def without_comments(script: str) -> str:
    """`script` with an empty line for each that is a comment and nothing else. Text in backticks stays as it is."""
    lines = []
    in_comment = in_template = False
    for line in script.split("\n"):
        stripped = line.strip()
        # What follows the end of a comment in its line is code, and stays.
        if in_comment or (not in_template and stripped.startswith("/**") and "*/" not in stripped[:-2]):
            _, end, code = line.partition("*/")
            in_comment = not end
            in_template ^= _opens_template(code)
            lines.append(code.rstrip())
        elif not in_template and stripped.startswith("//"):
            lines.append("")
        else:
            in_template ^= _opens_template(line)
            lines.append(line)
    return "\n".join(lines)


def _opens_template(code: str) -> bool:
    """Whether a line of code opens a text in backticks, or closes one."""
    return code.replace("\\`", "").count("`") % 2 == 1
