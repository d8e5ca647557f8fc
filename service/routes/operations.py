"""Probes, which are public, and metrics."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.access.admission import monitor
from service.dependencies import EngineDependency
from service.errors import RequestProblem
from service.http.problems import documented
from service.schemas import Status

__all__ = ["router"]

router = APIRouter(tags=["operations"])


@router.get("/livez")
async def livez() -> Status:
    """Whether the process is alive."""
    return Status()


@router.get("/readyz", responses=documented(503))
async def readyz(engine: EngineDependency) -> Status:
    """Whether searches are answered, and new generations can be."""
    if engine.alarms:
        raise RequestProblem(503, "; ".join(engine.alarms))
    return Status()


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **documented(401, 429, 503)},
    dependencies=[monitor],
)
def metrics(request: Request) -> Response:
    """Prometheus metrics."""
    state = request.app.state
    state.gate.keys.age()
    return Response(state.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})
