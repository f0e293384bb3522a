"""Commands for those who build or teach the course: measure it, execute its notebooks, draw its
pictures, write its pages, carry it to a class. Learners need none of them."""

from sdlearn.measure.pages import write_between

__all__ = ["write_between"]
