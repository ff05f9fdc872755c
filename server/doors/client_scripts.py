"""Serves scripts without comments, which saves a quarter of the bytes.

There is no build step, and line numbers stay, so a browser's stack trace names the lines of the source. Only lines that
are nothing but comment become empty; `tests/server/doors/test_client_scripts.py` compares every script with its source.
Runs on the event loop; the files are few and small, and each is read once.
"""

from __future__ import annotations

from pathlib import Path

from aiohttp import ETag, web

# Third-party scripts are served unchanged, with their notices.
_VENDOR = "vendor"


class ClientScripts:
    """Serves `*.js` below `folder`. Add it before the static route, which serves everything else there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        # At most one entry for each script: other paths are never added.
        self._served: dict[Path, tuple[str, str]] = {}

    def add_routes(self, router: web.UrlDispatcher, prefix: str) -> None:
        router.add_get(prefix + r"{path:.+\.js}", self._serve)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        path = self._known(request.match_info["path"])
        if path is None:
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

    def _known(self, wanted: str) -> Path | None:
        """The script of this name, found among the existing scripts. The requested path itself is never opened."""
        scripts = {path.relative_to(self._folder).as_posix(): path for path in self._folder.rglob("*.js")}
        return scripts.get(wanted)


def without_comments(script: str) -> str:
    """`script` with an empty line for each that is a comment and nothing else. Text in backticks stays as it is."""
    lines = []
    in_comment = in_template = False
    for line in script.split("\n"):
        stripped = line.strip()
        # A line with code after the end of its comment is kept, or the code would be lost.
        if in_comment or (not in_template and stripped.startswith("/**") and "*/" not in stripped[:-2]):
            in_comment = not stripped.endswith("*/")
            lines.append("")
        elif not in_template and stripped.startswith("//"):
            lines.append("")
        else:
            in_template ^= line.replace("\\`", "").count("`") % 2 == 1
            lines.append(line)
    return "\n".join(lines)
