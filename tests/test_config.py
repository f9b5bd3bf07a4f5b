"""Configurations: their bounds, their names, their JSON."""

import dataclasses
import json
import math
import re
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.config import (
    DataConfig,
    ModelConfig,
    Origin,
    RunConfig,
    SampleConfig,
    TrainingConfig,
    from_options,
    validate,
)
from charrnn.errors import ConfigError
from charrnn.fields import flag_of, value_types

CLASSES = (DataConfig, ModelConfig, TrainingConfig, SampleConfig)
FIELDS = [(config_class, field) for config_class in CLASSES for field in dataclasses.fields(config_class)]
BOUNDS = [
    (config_class, field, key)
    for config_class, field in FIELDS
    for key in ("minimum", "maximum", "above", "below")
    if field.metadata[key] is not None
]


def name(value: Any) -> str:
    """A test's name: the field's, the class's or the value itself."""
    return getattr(value, "name", None) or getattr(value, "__name__", None) or str(value)


def values_of(config_class: type, field: dataclasses.Field[Any]) -> st.SearchStrategy[Any]:
    """The values that a field allows."""
    plain, choices, optional = value_types(config_class)[field.name]
    bounds = field.metadata
    if choices:
        allowed: st.SearchStrategy[Any] = st.sampled_from(choices)
    elif plain is bool:
        allowed = st.booleans()
    elif plain is str:
        allowed = st.text()
    elif plain is tuple:
        allowed = st.lists(st.text(min_size=1)).map(tuple)
    elif plain is int:
        allowed = st.integers(bounds["minimum"], bounds["maximum"])
    else:
        low, high = (bounds[a] if bounds[a] is not None else bounds[b] for a, b in
                     (("minimum", "above"), ("maximum", "below")))  # fmt: skip
        allowed = st.floats(low, high, exclude_min=bounds["above"] is not None,
                            exclude_max=bounds["below"] is not None, allow_infinity=False)  # fmt: skip
    return st.none() | allowed if optional else allowed


def configs(config_class: type) -> st.SearchStrategy[Any]:
    """Any valid configuration of a class."""
    fields = dataclasses.fields(config_class)
    return st.builds(config_class, **{field.name: values_of(config_class, field) for field in fields}).map(consistent)


def consistent(config: Any) -> Any:
    """A configuration without the options that do nothing beside its others."""
    fields = dataclasses.fields(config)
    idle = {field.name: field.default for field in fields if field.metadata["cells"]
            and config.cell not in field.metadata["cells"]}  # fmt: skip
    if isinstance(config, DataConfig) and (config.val_fraction or 0.1) + config.test_fraction >= 1:
        idle["test_fraction"] = 0.0
    if isinstance(config, ModelConfig):
        if config.cell == "mogrifier-lstm" and config.embedding_size == 0:
            idle["embedding_size"] = None
        if config.dropout == 0:
            idle["variational"] = False
        if config.num_layers == 1:
            idle["residual"] = False
    if isinstance(config, SampleConfig):
        if config.repeat_penalty == 1:
            idle["repeat_window"] = 64
        if config.regex is not None:
            idle["length"] = min(config.length, 100_000)
            config = dataclasses.replace(config, length=idle["length"], regex=re.escape(config.regex))
        idle |= {"min_length": min(config.min_length, config.length), "allow": config.allow or None}
        if config.length > 1_000_000:
            idle["no_repeat"] = 0
        if config.regex is not None:
            idle |= {"ignore_eos": False, "stop": (), "allow_unk": False}
    return dataclasses.replace(config, **idle)


runs = st.builds(
    RunConfig,
    corpus=st.lists(st.text()).map(tuple),
    corpus_hash=st.text(),
    data=configs(DataConfig),
    model=configs(ModelConfig),
    training=configs(TrainingConfig),
    versions=st.dictionaries(st.text(), st.text()),
)


@given(runs)
def test_json_round_trip(run: RunConfig) -> None:
    assert RunConfig.from_json(run.to_json()) == run


@pytest.mark.parametrize("text", ["", "[]", "{}", "1", "nonsense", "[" * 100_000, '{"corpus": ["a"]}', "null"])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not a run's configuration"):
        RunConfig.from_json(text)


def test_the_origin_comes_back_and_a_run_without_one_is_read() -> None:
    run = RunConfig(("a",), "", DataConfig(), ModelConfig(), TrainingConfig(), {}, Origin("/runs/old", "f" * 64))
    assert RunConfig.from_json(run.to_json()) == run
    old = json.loads(run.to_json())
    del old["init_from"]
    assert RunConfig.from_json(json.dumps(old)) == dataclasses.replace(run, init_from=None)


@pytest.mark.parametrize(
    ("name", "value"),
    [("corpus", [1]), ("corpus_hash", 3), ("versions", {"jax": 1}), ("init_from", {"run": 1, "weights": "x"}),
     ("whole_documents", "yes")],
)  # fmt: skip
def test_facts_that_are_no_texts_are_refused(name: str, value: object) -> None:
    run = RunConfig((), "", DataConfig(), ModelConfig(), TrainingConfig(), {})
    with pytest.raises(ConfigError, match="not a run's configuration"):
        RunConfig.from_json(json.dumps(json.loads(run.to_json()) | {name: value}))


def test_the_held_out_parts_leave_text_to_learn() -> None:
    validate(DataConfig(val_fraction=0.5, test_fraction=0.49))
    for data in (DataConfig(val_fraction=0.5, test_fraction=0.5), DataConfig(test_fraction=0.9)):
        with pytest.raises(ConfigError, match=r"--test-fraction .* and --val-fraction .* leave no text to learn"):
            validate(data)


def test_json_with_a_value_out_of_bounds_is_refused() -> None:
    run = RunConfig(("a",), "", DataConfig(), ModelConfig(num_layers=0), TrainingConfig(), {})
    with pytest.raises(ConfigError, match="--layers must be at least 1"):
        RunConfig.from_json(run.to_json())
    with pytest.raises(ConfigError, match="unexpected keyword"):
        RunConfig.from_json(run.to_json().replace("forget_bias", "remember_bias"))


@pytest.mark.parametrize("config_class", CLASSES, ids=name)
def test_defaults_are_valid(config_class: type) -> None:
    validate(config_class())


@given(st.data(), st.sampled_from(CLASSES))
def test_what_the_bounds_allow_is_valid(data: st.DataObject, config_class: type) -> None:
    config = data.draw(configs(config_class))
    validate(config)
    assert from_options(config_class, dataclasses.asdict(config)) == from_options(
        config_class, {**dataclasses.asdict(config), "of_another_room": 1}
    )


@given(st.text() | st.text("ab(?P<>:i)[^-]{1,}|*+.$\\"))
def test_any_text_is_a_pattern_or_refused(regex: str) -> None:
    try:
        validate(SampleConfig(regex=regex))
    except ConfigError as error:
        assert str(error).startswith("--regex: ") and "\n" not in str(error)
        with warnings.catch_warnings(action="ignore"), pytest.raises((re.error, OverflowError, ValueError)):
            re.compile(regex)


@pytest.mark.parametrize(
    ("regex", "why"),
    [("(", "unterminated"), ("?", "nothing to repeat"), ("a{99999999999999999999}", "repetition number is too large"),
     ("(?u)(?a)a", "flags are incompatible"), ("(" * 5_000 + ")" * 5_000, "nested too deeply")],
    ids=["parenthesis", "repeat", "number", "flags", "depth"],
)  # fmt: skip
def test_a_wrong_pattern_is_refused(regex: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"^--regex: .*{why}"):
        validate(SampleConfig(regex=regex))


def test_what_python_may_read_otherwise_one_day_says_nothing() -> None:
    validate(SampleConfig(regex="[[a]"))  # a warning would be an error here


@pytest.mark.parametrize(("config_class", "field", "key"), BOUNDS, ids=name)
def test_bounds_hold_exactly(config_class: type, field: dataclasses.Field[Any], key: str) -> None:
    bound = field.metadata[key]
    whole = value_types(config_class)[field.name][0] is int
    direction = math.inf if key in ("maximum", "below") else -math.inf
    beyond = bound + int(math.copysign(1, direction)) if whole else math.nextafter(bound, direction)
    cell = {"cell": field.metadata["cells"][0]} if field.metadata["cells"] else {}
    cell |= {"repeat_penalty": 1.1} if field.name == "repeat_window" else {}
    if key in ("minimum", "maximum"):
        validate(config_class(**{field.name: bound, **cell}))
    for outside in [beyond] + [bound] * (key in ("above", "below")):
        with pytest.raises(ConfigError, match=rf"^{flag_of(field)} must be "):
            validate(config_class(**{field.name: outside}))


@pytest.mark.parametrize(("config_class", "field"), FIELDS, ids=name)
def test_wrong_types_are_refused(config_class: type, field: dataclasses.Field[Any]) -> None:
    plain, _, optional = value_types(config_class)[field.name]
    wrong: list[Any] = [[], object(), b"text"]
    wrong += [3, 0.5] if plain in (str, bool) else ["1", True]
    wrong += [1.0] if plain is int else []
    wrong += [math.nan, math.inf, -math.inf] if plain is float else []
    wrong += [] if optional else [None]
    for value in wrong:
        with pytest.raises(ConfigError, match=rf"^{flag_of(field)} must be "):
            validate(config_class(**{field.name: value}))


@pytest.mark.parametrize(("config_class", "field"), FIELDS, ids=name)
def test_every_option_has_help(config_class: type, field: dataclasses.Field[Any]) -> None:
    assert field.metadata["help"].endswith(".")
    assert flag_of(field).startswith("--") and "_" not in flag_of(field)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "rnn", "forget_bias": 1.0}, "--forget-bias does nothing for --cell rnn; it is for lstm"),
        ({"cell": "gru", "output_bias": 1.0}, "--output-bias does nothing for --cell gru; it is for lstm"),
        ({"cell": "mingru", "weight_drop": 0.5}, "--weight-drop does nothing for --cell mingru; it is for rnn"),
        ({"mogrifier_rounds": 3}, "--mogrifier-rounds does nothing for --cell lstm; it is for mogrifier-lstm"),
        ({"cell": "mogrifier-lstm", "embedding_size": 0}, "--embedding must be at least 1"),
        ({"residual": True}, "--residual needs --layers 2"),
        ({"variational": True, "dropout": 0.0}, "--dropout must be above 0"),
    ],
)
def test_options_that_would_do_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(ModelConfig(**options))


@pytest.mark.parametrize("value", [65_537, 1_234_567, 10**400])
def test_refusal_shows_what_was_given(value: int) -> None:
    with pytest.raises(ConfigError, match="--hidden must be at most 65,536, not " + f"{value:,}"[:40]):
        validate(ModelConfig(hidden_size=value))


def test_options_that_are_none_or_ignored_keep_their_default() -> None:
    options = {"hidden_size": None, "num_layers": 3, "dropout": 0.5, "corpus": "x"}
    assert from_options(ModelConfig, options, ignore=["dropout"]) == ModelConfig(num_layers=3)
    with pytest.raises(ConfigError, match="--layers"):
        from_options(ModelConfig, {"num_layers": 65})


@pytest.mark.parametrize("name", ["precision", "clip_norm", "seed"])
def test_a_giant_value_is_shown_in_short(name: str) -> None:
    value: Any = "9" * 5000 if name == "precision" else -(10**3000)
    with pytest.raises(ConfigError) as caught:
        from_options(TrainingConfig, {name: value})
    assert len(str(caught.value)) < 300
