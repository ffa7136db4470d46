"""A searchable index of embeddings on disk: exact by default, approximate when asked."""

from tupelo.search.answers import Found
from tupelo.search.approximate import Approximate
from tupelo.search.index import Index, Info, build, open
from tupelo.search.items import Items, items_of
from tupelo.search.sheet import Row, contact_sheet

__all__ = [
    "build",
    "open",
    "Index",
    "Found",
    "Info",
    "Items",
    "items_of",
    "Approximate",
    "contact_sheet",
    "Row",
]
