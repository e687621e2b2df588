"""Code in R values: it is never read, and left out of written files."""

from dataclasses import replace

from cellworker.formats.r.rds.model import RS4, RList, RNull, RStrings, RValue, RVector, Skipped

__all__ = ["without_code"]


def without_code(value: RValue) -> RValue:
    """Return a value with NULL instead of functions and environments, which readers skip."""
    if isinstance(value, Skipped):
        return RNull()
    if isinstance(value, RS4):
        slots = {name: without_code(item) for name, item in value.slots.items()}
        return RS4(value.class_name, value.package, slots)
    if isinstance(value, RList):
        attributes = {name: without_code(item) for name, item in value.attributes.items()}
        return RList([without_code(item) for item in value.items], attributes)
    if isinstance(value, RVector | RStrings):
        return replace(value, attributes={name: without_code(item) for name, item in value.attributes.items()})
    return value
