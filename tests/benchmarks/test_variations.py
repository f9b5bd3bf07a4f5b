"""What the variations of the recipe replace must be there, or they would measure the program as it is."""

import pytest

from benchmarks import variations
from benchmarks.recipe import PARTS


@pytest.mark.parametrize("name", variations.VARIATIONS)
def test_a_variation_replaces_what_is_there(name, monkeypatch):
    replaced = []

    def note(owner, attribute, value):
        replaced.append(attribute)
        return getattr(owner, attribute)

    monkeypatch.setattr(variations, "replace", note)
    variations.VARIATIONS[name]()
    assert replaced


def test_what_is_not_there_cannot_be_replaced():
    with pytest.raises(AttributeError, match="no_such_rate"):
        variations.replace(variations.loop, "no_such_rate", 1.0)


def test_every_variation_is_measured():
    named = {word[1:] for part in PARTS.values() for word in part.split() if word.startswith("@")}
    assert named == {*variations.VARIATIONS}
