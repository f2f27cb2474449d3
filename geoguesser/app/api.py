"""HTTP endpoints under /api/v1. Each one checks its request and calls `Service`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, FastAPI, File, Form, Path, Request, Response, UploadFile
from starlette.types import ASGIApp

from geoguesser.app import schemas
from geoguesser.app.access import Access, mount_login
from geoguesser.app.middleware import RequestFilter
from geoguesser.app.problems import ProblemError, add_problem_handlers, document_problems
from geoguesser.app.responses import make_game_info, make_model_info
from geoguesser.app.schemas import COMPASS
from geoguesser.app.service import Service
from geoguesser.app.static_files import mount_page
from geoguesser.system.versions import __version__

API_ROOT = "/api/v1"
DESCRIPTION = """
Predicts where street-level photos were taken. Send one to four photos of a place, each in the form field of
its heading: north, east, south or west. Errors are JSON with a sentence under `detail`. Coordinates are in
degrees, WGS 84. If the server was started with a token, each request needs the header Authorization: Bearer TOKEN.
"""
AREAS_DESCRIPTION = (
    "Whether to return outlines of the prediction sets: the cells that reach each confidence level."
)
PREDICT_FIELDS = {*COMPASS, "model", "areas"}
Photo = Annotated[UploadFile | None, File(description="JPEG, PNG or WebP photo that looks in this direction.")]
ModelName = Annotated[str, Path(description="Name of a model.", min_length=1, max_length=200)]
GameId = Annotated[str, Path(alias="game", description="Id of a game.", min_length=1, max_length=100)]


def make_app(service: Service, *, hosts: Collection[str] | None, access: Access | None = None) -> ASGIApp:
    """Makes the complete application: middleware, API and page. It starts and stops the service."""

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
        # FastAPI's documentation pages load scripts from another host. The page that `mount_page` serves at /api
        # does not.
        docs_url=None,
        redoc_url=None,
    )
    add_problem_handlers(app)
    middleware = RequestFilter(app, service.limits, hosts, upload_paths=[f"{API_ROOT}/predict"], access=access)
    app.include_router(_make_model_router(service, middleware))
    app.include_router(_make_prediction_router(service))
    app.include_router(_make_game_router(service))
    mount_page(app)
    if access is not None:
        mount_login(app, access)
    return middleware


def _make_model_router(service: Service, middleware: RequestFilter) -> APIRouter:
    router = APIRouter(prefix=API_ROOT, tags=["models"])

    @router.get("/health", responses=document_problems())
    async def health() -> schemas.Health:
        """Returns the state of the server and the number of requests in progress."""
        return schemas.Health(
            status="ok",
            version=__version__,
            models=len(service.models),
            at_work=middleware.requests_in_progress,
            most=service.limits.requests,
        )

    @router.get("/models", responses=document_problems())
    async def models() -> schemas.ModelList:
        """Lists the models; the first is the default."""
        infos = [make_model_info(model) for model in service.models.values()]
        return schemas.ModelList(models=infos, upload_mib=service.limits.upload_mib)

    @router.get("/models/{model}/outline", responses=document_problems(404))
    async def outline(model: ModelName) -> schemas.Geometry:
        """Returns the outline of the model's region as a GeoJSON geometry."""
        return schemas.Geometry.model_validate(service.get_model(model).outline)

    @router.get("/models/{model}/cells", responses=document_problems(404))
    async def cells(model: ModelName) -> schemas.CellFeatures:
        """Returns the model's cells as a GeoJSON FeatureCollection."""
        return schemas.CellFeatures.model_validate(service.get_model(model).cells)

    return router


def _make_prediction_router(service: Service) -> APIRouter:
    router = APIRouter(prefix=API_ROOT, tags=["predictions"])

    @router.post("/predict", responses=document_problems(404, 408, 413, 415))
    async def predict(
        request: Request,
        *,
        north: Photo = None,
        east: Photo = None,
        south: Photo = None,
        west: Photo = None,
        model: Annotated[str | None, Form(description="Name of a model; the first by default.")] = None,
        areas: Annotated[bool, Form(description=AREAS_DESCRIPTION)] = False,
    ) -> schemas.Prediction:
        """Predicts the position of a place from one to four of its views."""
        await _check_fields(request)
        served_model = service.get_model(model)

        photos = [None if photo is None else await photo.read() for photo in (north, east, south, west)]
        if not any(photo is not None for photo in photos):
            raise ProblemError(422, f"Send at least one photo in the form fields {', '.join(COMPASS)}.")
        return await service.predict(served_model, photos, areas=areas)

    @router.post("/predict/folder", responses=document_problems(404, 408, 413))
    async def predict_folder(body: schemas.FolderRequest) -> schemas.FolderResponse:
        """Predicts the positions of the places in a folder of the server. It must be inside the server's root."""
        return await service.predict_folder(service.get_model(body.model), body.folder)

    return router


async def _check_fields(request: Request) -> None:
    """Refuses unknown and repeated form fields, which FastAPI would ignore."""
    names = [name for name, _ in (await request.form()).multi_items()]
    for name in names:
        if name not in PREDICT_FIELDS:
            fields = ", ".join(sorted(PREDICT_FIELDS))
            raise ProblemError(422, f"A field must be one of {fields}, got {name[:40]!r}.")
        if names.count(name) > 1:
            raise ProblemError(422, f"The field {name} must not occur more than once.")


def _make_game_router(service: Service) -> APIRouter:
    router = APIRouter(prefix=f"{API_ROOT}/games", tags=["game"])

    # `make_game_info` reads files of the current place. It runs in a thread, because file access would block the
    # event loop.
    @router.post("", status_code=201, responses=document_problems(404, 408, 413))
    async def begin_game(body: schemas.GameRequest) -> schemas.GameInfo:
        """Begins a game on test places of the model's run, which were not used in training."""
        model = service.get_model(body.model)
        return await service.run_in_thread(lambda: make_game_info(service.games.begin(model, body.rounds)))

    @router.get("/{game}", responses=document_problems(404))
    async def get_game(game_id: GameId) -> schemas.GameInfo:
        """Returns the state of a game."""
        game = service.games.find(game_id)
        return await service.run_in_thread(lambda: make_game_info(game))

    @router.post("/{game}/guess", responses=document_problems(404, 408, 409, 413))
    async def submit_guess(game_id: GameId, body: schemas.Guess) -> schemas.GameInfo:
        """Ends the current round; its result is the last of `results`."""
        game = service.games.find(game_id)
        game.guess(body.round, (body.latitude, body.longitude))
        return await service.run_in_thread(lambda: make_game_info(game))

    view_path, view_responses = "/{game}/rounds/{number}/views/{heading}", document_problems(404)
    view_responses[200] = {"content": {"image/jpeg": {}}, "description": "The view as JPEG."}

    @router.get(view_path, responses=view_responses, response_class=Response)
    async def get_view(
        game_id: GameId, number: Annotated[int, Path(ge=1, le=20)], heading: schemas.Heading
    ) -> Response:
        """Returns one view of a round's place. The round must be finished or in progress."""
        game = service.games.find(game_id)
        photo = await service.read_game_photo(game, number, COMPASS.index(heading))
        if photo is None:
            raise ProblemError(404, "There is no such view, or its round has not begun.")
        return Response(photo, media_type="image/jpeg")

    return router
