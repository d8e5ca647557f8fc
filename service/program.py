"""The program ``svdraw``: the commands of all three packages."""

from index.__main__ import COMMANDS as INDEX_COMMANDS
from index.__main__ import SUMMARY as INDEX_SUMMARY
from training.__main__ import COMMANDS as TRAINING_COMMANDS
from training.__main__ import GROUPS as TRAINING_GROUPS
from training.base.command_line import Command, Program

__all__ = ["SVDRAW"]

_SERVE = Command(
    "serve",
    "service.processes:serve",
    "Serve the search over a gallery: REST API and web page.",
    "svdraw serve --gallery gallery",
    extra="service",
    prefix="SVDRAW_",
    options="service.settings:ServiceSettings",
)

_MCP = Command(
    "mcp",
    "service.mcp_server:mcp",
    "Offer a running service's search to assistants as MCP tools.",
    "svdraw mcp --service http://127.0.0.1:8000",
    extra="mcp",
)

SVDRAW = Program(
    "svdraw",
    "Find photos by drawing them: train a model, index photos, serve the search.",
    (*TRAINING_COMMANDS, *INDEX_COMMANDS, _SERVE, _MCP),
    {**TRAINING_GROUPS, "index": INDEX_SUMMARY},
)
