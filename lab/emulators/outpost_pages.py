"""The few pages that a person meets when logging in: plain HTML, no scripts, usable with a keyboard and a reader."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from werkzeug.wrappers import Response

STYLE = """
:root { color-scheme: light dark; --accent: #b03a17; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; font: 1rem/1.5 system-ui, sans-serif;
  background: Canvas; color: CanvasText; }
main { width: min(22rem, 88vw); padding: 2rem; border: 1px solid color-mix(in srgb, CanvasText 20%, transparent);
  border-radius: .75rem; }
h1 { margin: 0 0 1rem; font-size: 1.4rem; }
label { display: block; margin-top: 1rem; font-weight: 600; }
input { box-sizing: border-box; width: 100%; margin-top: .25rem; padding: .6rem; font: inherit; border-radius: .4rem;
  border: 1px solid color-mix(in srgb, CanvasText 45%, transparent); }
button { width: 100%; margin-top: 1.5rem; padding: .7rem; font: inherit; font-weight: 600; border: 0;
  border-radius: .4rem; background: var(--accent); color: #fff; cursor: pointer; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
[role=alert] { margin: 0; padding: .6rem .8rem; border-left: 4px solid var(--accent); }
"""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def page(title: str, body: str, status: int = 200) -> Response:
    """A page; ``body`` is HTML already."""
    text = (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{escape(title)} - authentik</title>\n"
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{STYLE}</style>\n</head>\n'
        f"<body>\n<main>\n<h1>{escape(title)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )
    return Response(text, status=status, headers=HEADERS, mimetype="text/html")


def login(action: str, username: str = "", problem: str = "") -> Response:
    """The login form; ``problem`` is what went wrong the last time (400)."""
    alert = f'<p role="alert" id="problem">{escape(problem)}</p>\n' if problem else ""
    described = ' aria-describedby="problem" aria-invalid="true"' if problem else ""
    form = (
        f'{alert}<form method="post" action="{escape(action)}">\n'
        '<label for="username">Username</label>\n'
        f'<input id="username" name="username" autocomplete="username" autocapitalize="none" required autofocus '
        f'value="{escape(username)}"{described}>\n'
        '<label for="password">Password</label>\n'
        f'<input id="password" name="password" type="password" autocomplete="current-password" required{described}>\n'
        '<button type="submit">Log in</button>\n</form>'
    )
    return page("Log in", form, 400 if problem else 200)


def message(title: str, text: str, status: int = 200) -> Response:
    """A page that says one thing."""
    return page(title, f'<p role="{"alert" if status >= 400 else "status"}">{escape(text)}</p>', status)


def library(name: str, applications: Iterable[tuple[str, str]]) -> Response:
    """Where a logged-in user lands: the applications (name, URL) that they may open."""
    items = "".join(f'<li><a href="{escape(link)}">{escape(title)}</a></li>\n' for title, link in applications)
    shown = f"<ul>\n{items}</ul>" if items else "<p>No applications available.</p>"
    return page("My applications", f'<p>Logged in as {escape(name)}.</p>\n{shown}\n<p><a href="/if/session-end/">'
                                   "Log out</a></p>")  # fmt: skip
