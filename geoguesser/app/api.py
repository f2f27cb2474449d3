"""API: the addresses under /api/v1, typed and documented. What they do is the service's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, File, Form, Path, Request, Response, UploadFile
from starlette.types import ASGIApp

from geoguesser.app import schemas
from geoguesser.app import static_files as pages
from geoguesser.app.middleware import RequestFilter
from geoguesser.app.problems import ProblemError, add_problem_handlers, document_problems
from geoguesser.app.responses import make_game_info, make_model_info
from geoguesser.app.schemas import COMPASS
from geoguesser.app.service import Service
from geoguesser.system.versions import __version__

API_ROOT = "/api/v1"
DESCRIPTION = """
Says where street-level photos were taken. Send one to four photos of a place, each for the compass heading to
which it looks. Errors are JSON with one sentence under `detail`. Coordinates are degrees, WGS 84.
"""
PREDICT_FIELDS = {*COMPASS, "model", "areas"}
Photo = Annotated[UploadFile | None, File(description="A JPEG, PNG or WebP photo that looks in this direction.")]
ModelName = Annotated[str, Path(description="A model's name.", min_length=1, max_length=200)]
GameId = Annotated[str, Path(description="A game's id.", min_length=1, max_length=100)]


def make_app(service: Service, *, hosts: Collection[str] | None) -> ASGIApp:
    """The whole application: page, API and what guards them.

    Args:
        service: What it serves; entered and left with the application.
        hosts: The names by which it may be called; None for any.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with service:
            yield

    app = FastAPI(
        title="geoguesser",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url="/api/openapi.json",
        docs_url=None,  # they load scripts from elsewhere; /api is our own
        redoc_url=None,
    )
    add_problem_handlers(app)
    gate = RequestFilter(app, service.limits, hosts, [f"{API_ROOT}/predict"])
    app.include_router(_general(service, gate))
    app.include_router(_predictions(service))
    app.include_router(_games(service))
    pages.mount_page(app)
    return gate


def _general(service: Service, gate: RequestFilter) -> APIRouter:
    router = APIRouter(prefix=API_ROOT, tags=["models"])

    @router.get("/health", responses=document_problems())
    async def health() -> schemas.Health:
        """Whether the server works, and how much it has to do."""
        return schemas.Health(
            status="ok",
            version=__version__,
            models=len(service.models),
            at_work=gate.at_work,
            most=service.limits.requests,
        )

    @router.get("/models", responses=document_problems())
    async def models() -> schemas.ModelList:
        """The models to choose from; the first is asked where none is named."""
        known = [make_model_info(model) for model in service.models.values()]
        return schemas.ModelList(models=known, upload_mib=service.limits.upload_mib)

    @router.get("/models/{model}/outline", responses=document_problems(404))
    async def outline(model: ModelName) -> schemas.Geometry:
        """The outline of the model's region as a GeoJSON geometry."""
        return schemas.Geometry.model_validate(service.model(model).outline)

    @router.get("/models/{model}/cells", responses=document_problems(404))
    async def cells(model: ModelName) -> schemas.CellFeatures:
        """The model's cells as a GeoJSON FeatureCollection."""
        return schemas.CellFeatures.model_validate(service.model(model).cells)

    return router


def _predictions(service: Service) -> APIRouter:
    router = APIRouter(prefix=API_ROOT, tags=["predictions"])

    @router.post("/predict", responses=document_problems(404, 408, 413, 415))
    async def predict(
        request: Request,
        *,
        north: Photo = None,
        east: Photo = None,
        south: Photo = None,
        west: Photo = None,
        model: Annotated[str | None, Form(description="A model's name; the first where none is named.")] = None,
        areas: Annotated[bool, Form(description="Whether to send the outlines of the sets too.")] = False,
    ) -> schemas.Prediction:
        """Says where a place is, from one to four of its views."""
        await _check_fields(request)
        chosen = service.model(model)
        photos = [None if one is None else await one.read() for one in (north, east, south, west)]
        if not any(one is not None for one in photos):
            raise ProblemError(422, f"There must be a photo, under {', '.join(COMPASS[:3])} or {COMPASS[3]}.")
        return await service.predict(chosen, photos, areas=areas)

    @router.post("/predict/folder", responses=document_problems(404, 408, 413))
    async def predict_folder(question: schemas.FolderRequest) -> schemas.FolderResponse:
        """Says where the places of a folder are, which lies inside the root that the server was given."""
        return await service.predict_folder(service.model(question.model), question.folder)

    return router


async def _check_fields(request: Request) -> None:
    """A field that is unknown, or there twice, would be left out without a word."""
    names = [name for name, _ in (await request.form()).multi_items()]
    for name in names:
        if name not in PREDICT_FIELDS:
            known = ", ".join(sorted(PREDICT_FIELDS))
            raise ProblemError(422, f"A field must be one of {known}, got {name[:40]!r}.")
        if names.count(name) > 1:
            raise ProblemError(422, f"{name} must be given once.")


def _games(service: Service) -> APIRouter:
    router = APIRouter(prefix=f"{API_ROOT}/games", tags=["game"])
    jpeg: dict[int | str, dict[str, Any]] = {
        200: {"content": {"image/jpeg": {}}, "description": "The view as JPEG."}
    }

    @router.post("", status_code=201, responses=document_problems(404, 408, 413))
    async def begin(question: schemas.GameRequest) -> schemas.GameInfo:
        """Begins a game on places that the model was not trained on."""
        model = service.model(question.model)
        return await service.aside(lambda: make_game_info(service.games.begin(model, question.rounds)))

    @router.get("/{game}", responses=document_problems(404))
    async def look(game: GameId) -> schemas.GameInfo:
        """A game as far as it has come."""
        found = service.games.find(game)
        return await service.aside(lambda: make_game_info(found))

    @router.post("/{game}/guess", responses=document_problems(404, 408, 409, 413))
    async def guess(game: GameId, guess: schemas.Guess) -> schemas.GameInfo:
        """Ends the round that is on; its result is the last of `results`."""
        found = service.games.find(game)
        found.guess(guess.round, (guess.latitude, guess.longitude))
        return await service.aside(lambda: make_game_info(found))

    @router.get(
        "/{game}/rounds/{number}/views/{heading}",
        responses={**document_problems(404), **jpeg},
        response_class=Response,
    )
    async def view(game: GameId, number: Annotated[int, Path(ge=1, le=20)], heading: schemas.Heading) -> Response:
        """A view of the place of a round that is on or over."""
        found = service.games.find(game)
        photo = await service.aside(lambda: found.photo(number, COMPASS.index(heading)))
        if photo is None:
            raise ProblemError(404, "There is no such view, or its round has not begun.")
        return Response(photo, media_type="image/jpeg")

    return router
