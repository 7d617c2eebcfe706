"""The kinds of value that stand in a recipe, each with the words that say what is allowed; and what a section is."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WrapValidator
from pydantic_core import PydanticCustomError, ValidationError


class Section(BaseModel):
    """A section of a recipe: frozen, every key known, no value of another type (3 may stand for 3.0)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def allowed(words: str) -> WrapValidator:
    """Make every failure of a kind of value say, in words, what would have been allowed."""

    def check(value, validate):
        try:
            return validate(value)
        except (ValidationError, ValueError):
            raise PydanticCustomError("allowed", "{allowed}", {"allowed": words}) from None

    return WrapValidator(check)


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("even")
    return value


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("low > high")
    return pair


_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Counted = Annotated[int, Field(ge=1)]

Switch = Annotated[bool, allowed("true or false")]
Words = Annotated[str, Field(min_length=1), allowed("a text in quotes")]
Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], allowed("a list of texts in quotes")]
Count = Annotated[_Counted, allowed("a whole number of at least 1")]
Counts = Annotated[tuple[_Counted, ...], Field(min_length=1), allowed("a list of whole numbers of at least 1")]
FromZero = Annotated[int, Field(ge=0, lt=2**32), allowed("a whole number from 0 to 4294967295")]
Kernel = Annotated[_Counted, AfterValidator(_odd), allowed("an odd whole number of at least 1")]
Stage = Annotated[int, Field(ge=0, le=3), allowed("a stage from 0 to 3 (strides 4, 8, 16, 32)")]
Positive = Annotated[_Positive, allowed("a number above 0")]
Positives = Annotated[tuple[_Positive, ...], Field(min_length=1), allowed("a list of numbers above 0")]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), allowed("a number of at least 0")]
Probability = Annotated[float, Field(ge=0, le=1), allowed("a probability from 0 to 1")]
Angle = Annotated[float, Field(ge=0, le=180), allowed("degrees from 0 to 180")]
BelowOne = Annotated[float, Field(ge=0, lt=1), allowed("a number from 0 to below 1")]
Share = Annotated[float, Field(gt=0, le=1), allowed("a share above 0 and up to 1 (1.0 accepts every crop)")]
Percent = Annotated[float, Field(ge=0, le=100), allowed("a percentage from 0 to 100")]
Size = Annotated[tuple[_Counted, _Counted], allowed("[height, width], whole numbers of at least 1")]
Range = Annotated[tuple[_Positive, _Positive], AfterValidator(_ordered), allowed("[low, high], above 0")]
Color = Annotated[tuple[_Finite, _Finite, _Finite], allowed("[red, green, blue], three numbers")]
Spread = Annotated[tuple[_Positive, _Positive, _Positive], allowed("[red, green, blue], three numbers above 0")]
_Stride = Annotated[int, Field(ge=1, le=2)]
Strides = Annotated[tuple[_Stride, _Stride, _Stride, _Stride], allowed("four whole numbers, each 1 or 2")]
Dilations = Annotated[
    tuple[_Counted, _Counted, _Counted, _Counted], allowed("four whole numbers of at least 1, one per stage")
]
TestSize = Annotated[
    tuple[_Counted, _Counted] | Literal["none"],
    allowed('[height, width], whole numbers of at least 1, or "none" (the image\'s own size)'),
]
