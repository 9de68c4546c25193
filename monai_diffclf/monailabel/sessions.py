# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Images that a client lends the server for a while."""

from __future__ import annotations

import logging
import time
import uuid
from pathlib import Path
from typing import Any

from monailabel.utils.sessions import SessionInfo, Sessions

from .names import resolve_inside

__all__ = ["SafeSessions"]

logger = logging.getLogger(__name__)


class SafeSessions(Sessions):
    """MONAI Label's sessions, whose ids are what it makes them, and whose images lie in their own folder.

    MONAI Label joins any id to its folder, removes what is there, and believes the file in it that names the image.
    """

    def get_session(self, session_id: str, update_ts: bool = True, fetch_cache: bool = True) -> SessionInfo | None:
        """The session; None if there is none of this id."""
        if not _is_id(session_id):
            return None
        try:
            folder = resolve_inside(Path(self.store_path, session_id), [self.store_path], "session_id")
            session = super().get_session(session_id, False, fetch_cache)
            if session is None:
                return None
            resolve_inside(session.image, [folder], "session_id")
        except (ValueError, TypeError, AttributeError) as error:
            logger.warning("session %s is left out: %s", session_id, error)
            return None
        # MONAI Label would write to wherever the session says.
        return super().get_session(session_id, update_ts, True)

    def remove_session(self, session_id: str) -> None:
        """Remove a session with its folder."""
        if _is_id(session_id) and not Path(self.store_path, session_id).is_symlink():
            super().remove_session(session_id)

    def remove_expired(self) -> int:
        """Remove the sessions that are older than they may be; other folders are left alone."""
        folder = Path(self.store_path)
        ids = [path.name for path in folder.iterdir() if _is_id(path.name)] if folder.is_dir() else []
        old = [name for name in ids if self._is_old(name)]
        for name in old:
            self.remove_session(name)
        return len(old)

    def _is_old(self, session_id: str) -> bool:
        session = self.get_session(session_id, update_ts=False)
        return session is None or bool(0 < session.expiry < time.time() - session.last_access_ts)


def _is_id(session_id: Any) -> bool:
    try:
        return bool(str(uuid.UUID(session_id)) == session_id)
    except (ValueError, TypeError, AttributeError):
        return False
