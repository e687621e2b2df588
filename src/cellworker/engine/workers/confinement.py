"""The engine gives up opening network connections."""

import logging

from cellworker.confinement import refuse_connections
from cellworker.logs import log

__all__ = ["give_up_connections"]

_logger = logging.getLogger(__name__)


def give_up_connections() -> bool:
    """Have the system refuse this process and its children every new socket that is not local.

    Sockets that are open already stay: listen first. It cannot be taken back.

    Returns
    -------
    bool
        Whether it holds. It does not on other systems than Linux, or where a container forbids seccomp; the log says
        so, and the engine serves nevertheless.
    """
    reason = refuse_connections()
    if reason:
        log(_logger, logging.WARNING, "connections are not given up", reason=reason)
    return not reason
