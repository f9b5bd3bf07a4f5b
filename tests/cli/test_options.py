"""What `--help` tells of defaults and bounds is what is checked."""

import dataclasses
import gc
import re

import click
import pytest

from charrnn.cli.complete import complete
from charrnn.cli.complete.session import LENGTH
from charrnn.cli.options import begin_computing, bounds_of
from charrnn.cli.sample import sample
from charrnn.config import DataConfig, ModelConfig, SampleConfig, TrainingConfig
from charrnn.fields import option


def told(command: click.Command, flag: str) -> str:
    """The facts in brackets after an option's help."""
    text = re.sub(r"\s+", " ", command.get_help(click.Context(command, max_content_width=200)))
    return re.search(rf"{flag} \S+ [^\[]*\[([^\]]*)\]", text)[1]  # type: ignore[index]


@pytest.mark.parametrize(
    ("bounds", "shown"),
    [({"minimum": 0}, "x>=0"), ({"above": 0.0, "maximum": 1.0}, "0<x<=1"), ({"minimum": 0.0, "below": 1.0}, "0<=x<1"),
     ({"maximum": 9}, "x<=9"), ({"above": 0.0}, "x>0"), ({}, "")],
    ids=str,
)  # fmt: skip
def test_bounds_as_they_are_shown(bounds: dict[str, float], shown: str) -> None:
    (field,) = dataclasses.fields(
        dataclasses.make_dataclass("Config", [("value", float, option(1.0, "A value.", **bounds))])
    )
    assert bounds_of(field) == shown


@pytest.mark.parametrize("config", [DataConfig, ModelConfig, SampleConfig, TrainingConfig])
def test_every_bound_is_shown(config: type) -> None:
    for field in dataclasses.fields(config):
        given = [field.metadata[key] for key in ("minimum", "maximum", "above", "below")]
        assert bool(bounds_of(field)) == any(bound is not None for bound in given)


def test_help_tells_the_defaults_and_bounds() -> None:
    assert told(complete, "--length") == f"default: {LENGTH}; 0<=x<=1073741824"
    assert told(sample, "--length") == f"default: {SampleConfig.length}; 0<=x<=1073741824"
    field = {field.name: field for field in dataclasses.fields(SampleConfig)}["temperature"]
    assert told(sample, "--temperature") == f"default: {field.default}; {bounds_of(field)}"
    assert told(sample, "--seed") == "0<=x<=4294967295"


def test_garbage_is_collected_while_a_command_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charrnn.training.devices.keep_compiled_programs", lambda: None)
    gc.disable()
    try:
        begin_computing()
        assert gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()
