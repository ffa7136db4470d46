"""Online tracking of many objects, by arrays: boxes, scores and embeddings from anywhere."""

__all__: list[str] = []
