"""Access by a token: as a Bearer header for the API, or by a login form and a cookie for the page."""

from __future__ import annotations

import hmac
import re
import secrets

from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from geoguesser.app.static_files import load_page_files
from geoguesser.errors import ConfigError

TOKEN_VARIABLE = "GEOGUESSER_TOKEN"

# Characters of RFC 6750, section 2.1. Nobody can try all tokens of 16 characters.
TOKEN_PATTERN = re.compile(r"[A-Za-z0-9._~+/=-]{16,200}")
COOKIE = "geoguesser_session"
LOGIN_PATH = "/login"

# The login form and the files of the page, which are those of the package.
PUBLIC_PATHS = (LOGIN_PATH, "/favicon.ico")
PUBLIC_FOLDER = "/page/"


def check_token(key: str, token: object) -> str:
    """Checks a token, or raises a ConfigError that does not contain it."""
    if not isinstance(token, str) or not TOKEN_PATTERN.fullmatch(token):
        raise ConfigError.at(
            key,
            "must be text of 16 to 200 letters, digits and . _ ~ + / = -",
            remedy="python -c 'import secrets; print(secrets.token_urlsafe())' prints one.",
        )
    return token


class Access:
    """Decides which requests are answered: those with the token, or with the cookie that the login form gives.

    The cookie holds a random value that is made at each start and does not reveal the token.
    """

    def __init__(self, token: str) -> None:
        self._token = token
        self.session = secrets.token_urlsafe(32)

    def is_token(self, text: str) -> bool:
        """Compares a text with the token, in a time that does not depend on where they differ."""
        return hmac.compare_digest(text.encode(errors="replace"), self._token.encode())

    def allows(self, path: str, headers: Headers) -> bool:
        """Returns whether a request may be answered."""
        if path in PUBLIC_PATHS or path.startswith(PUBLIC_FOLDER):
            return True

        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(token.strip()):
            return True
        session = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
        return hmac.compare_digest(session.encode(errors="replace"), self.session.encode())


def mount_login(app: FastAPI, access: Access) -> None:
    """Serves the login form, which exchanges the token for the cookie of the session."""
    page = load_page_files()["login.html"]

    @app.get(LOGIN_PATH, include_in_schema=False)
    async def show_form() -> Response:
        return Response(page.text, media_type=page.media_type)

    @app.post(LOGIN_PATH, include_in_schema=False)
    async def log_in(request: Request) -> Response:
        token = (await request.form(max_files=0, max_fields=1)).get("token")
        if not isinstance(token, str) or not access.is_token(token.strip()):
            return Response(page.text.replace(" hidden>", ">", 1), 403, media_type=page.media_type)

        response = RedirectResponse("/", 303)
        # Only a proxy with encryption makes the origin of a page https.
        secure = request.headers.get("origin", "").startswith("https://")
        response.set_cookie(COOKIE, access.session, httponly=True, samesite="strict", secure=secure)
        return response
