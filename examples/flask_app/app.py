"""The application."""

from __future__ import annotations

import atexit
from typing import Any

from flask import Flask, request
from sqlalchemy.exc import DBAPIError

from examples.flask_app.sessions import install
from examples.flask_app.views import views
from examples.shop.answers import answer
from examples.shop.opening import open_router
from router import Router, RouterError


def create_app(router: Router | None = None) -> Flask:
    """Return the application, over the shop's router unless another one is given."""
    if router is None:
        router = open_router()
        atexit.register(router.dispose)
    app = Flask(__name__)
    install(app, router)
    app.register_blueprint(views)

    @app.errorhandler(RouterError)
    @app.errorhandler(DBAPIError)
    def failed(error: RouterError | DBAPIError) -> tuple[dict[str, Any], int, dict[str, str]]:
        """Answer a request that a database, or the map, has refused."""
        status, body, headers = answer(error)
        app.logger.warning("%s %s: %s, since %s", request.method, request.path, status, error)
        return body, status, headers

    return app
