"""What the application has to tell apart."""

from __future__ import annotations

from migrate.errors import MigrateError


class Refused(MigrateError):
    """A statement whose changes can't be captured, or a row that has no place on the other side. Nothing of it was
    done; the transaction can only be rolled back."""


class Fenced(MigrateError):
    """Writes are fenced for a moment, while the primary changes. Nothing was written: roll back and try again."""


class WrongPrimary(Fenced):
    """The primary has changed since the session was opened. Nothing was written: open a new session, it goes right."""


class NotOnBothSides(MigrateError):
    """In phase strict: the write IS committed on the primary, and isn't on the secondary within the deadline. It stays
    in the outbox and will get there: don't write it again."""
