"""What the variations of the recipe replace must be there, or they would measure the program as it is."""

import inspect

import pytest

from benchmarks import variations
from benchmarks.recipe import PARTS


def takes_anything(function) -> bool:
    return any(one.kind is one.VAR_POSITIONAL for one in inspect.signature(function).parameters.values())


@pytest.mark.parametrize("name", variations.VARIATIONS)
def test_a_variation_replaces_what_is_there(name, monkeypatch):
    replaced = []

    def note(owner, attribute, value):
        usual = getattr(owner, attribute)
        if inspect.isfunction(value) and not takes_anything(value):
            assert len(inspect.signature(value).parameters) == len(inspect.signature(usual).parameters)
        replaced.append(attribute)
        return usual

    monkeypatch.setattr(variations, "replace", note)
    variations.VARIATIONS[name]()
    assert replaced


def test_what_is_not_there_cannot_be_replaced():
    with pytest.raises(AttributeError, match="no_such_rate"):
        variations.replace(variations.loop, "no_such_rate", 1.0)


def test_every_variation_is_measured():
    named = {word[1:] for part in PARTS.values() for word in part.split() if word.startswith("@")}
    assert named == {*variations.VARIATIONS}
