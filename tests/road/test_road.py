"""The command on all four frameworks, as a user runs it, and what the frameworks really do at these versions.

Environments are shared with the user's own runs: what is not there yet is built, which takes minutes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from rich.cells import cell_len

from d2lparams.columns import adapters
from d2lparams.comparison import Comparison
from d2lparams.models import EXAMPLES
from d2lparams.reports.document import from_json, schema
from d2lparams.results import Run
from d2lparams.scenarios import scenarios

COLUMNS = ("numpy", "torch", "mxnet", "jax", "tensorflow")
FRAMEWORKS = COLUMNS[1:]
PATIENCE = 3600  # seconds, for environments that have to be built

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def road(
    command: Command, tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.CompletedProcess[str], bytes]:
    """One run of everything: how it ended, and the document that it wrote."""
    target = tmp_path_factory.mktemp("road") / "x.json"
    process = command("compare", "--full", "--output", target, seconds=PATIENCE)
    assert target.exists(), process.stderr
    return process, target.read_bytes()


@pytest.fixture(scope="session")
def comparison(road: tuple[subprocess.CompletedProcess[str], bytes]) -> Comparison:
    return from_json(road[1])


@pytest.fixture(scope="session")
def seen(comparison: Comparison) -> Callable[[str, str], dict[str, Any]]:
    """What each column observed."""
    rows = {(row.scenario, row.observation): row for row in comparison.rows}
    return lambda scenario, observation: rows[scenario, observation].values


# -- the run -------------------------------------------------------------------------------------------------


def test_all_is_well(road: tuple[subprocess.CompletedProcess[str], bytes]) -> None:
    process, _ = road
    assert process.returncode == 0, process.stdout + process.stderr
    assert "0 disagree" in process.stdout
    assert "\x1b" not in process.stdout + process.stderr


def test_the_document_is_what_the_schema_says(road: tuple[subprocess.CompletedProcess[str], bytes]) -> None:
    jsonschema.Draft202012Validator(schema()).validate(json.loads(road[1]))


# What a framework cannot do, by design, at these versions; all else it can.
UNSUPPORTED = {
    ("numpy", "book-claims"),
    *(("numpy", name) for name, one in scenarios().items() if one.group == "checkpoints"),
    *(("numpy", f"transfer-{name}") for name in ("lenet", "lstm", "language-model")),
    *(("tensorflow", name) for name in ("two-values-into-tied-parameters", "tied-parameters-into-two-layers")),
    *(("tensorflow", name) for name in ("tied-by-parameter", "tied-weight-only")),
    *(("tensorflow", name) for name in ("life-cycles-by-parameter", "life-cycles-of-a-weight")),
}


def test_every_column_is_ok_on_every_scenario_but_what_it_cannot_do(comparison: Comparison) -> None:
    assert tuple(run.name for run in comparison.columns) == COLUMNS
    for run in comparison.columns:
        assert (run.status, run.error) == ("ok", None), run.name
        assert [cell.name for cell in run.scenarios] == list(scenarios())
        for cell in run.scenarios:
            expected = "unsupported" if (run.name, cell.name) in UNSUPPORTED else "ok"
            assert cell.status == expected, (run.name, cell.name)
            assert (cell.error is None) == (expected == "ok")


def test_every_column_is_in_every_row_or_says_why_not(comparison: Comparison) -> None:
    for row in comparison.rows:
        assert {*row.values, *row.absent} == {*COLUMNS}
        for column, reason in row.absent.items():
            no_such_way = row.kind == "outcome" and reason == "not-applicable"
            assert no_such_way or (column, row.scenario) in UNSUPPORTED, (row.observation, column)


def test_every_invariant_agrees(comparison: Comparison) -> None:
    invariants = [row for row in comparison.rows if row.kind == "invariant"]
    assert invariants
    assert {row.verdict for row in invariants} == {"agree"}
    assert comparison.ok


def test_the_versions_are_those_that_the_adapters_pin(comparison: Comparison) -> None:
    for run in comparison.columns:
        for requirement in adapters()[run.backend].requirements:
            assert requirement.specifier.contains(run.versions[requirement.name]), run.name
        assert run.python


def test_times_and_logs_are_there(comparison: Comparison) -> None:
    def whole(run: Run) -> bool:
        return 0 < sum(cell.seconds for cell in run.scenarios) <= run.seconds

    assert all(map(whole, comparison.columns))
    assert all(run.log and Path(run.log).is_file() for run in comparison.columns)


# -- gradients -----------------------------------------------------------------------------------------------


def test_before_backward_torch_has_none_mxnet_zeros_and_the_others_keep_no_gradient(seen: Any) -> None:
    states = seen("targeted-parameter", "gradient before backward")
    assert states["torch"] == "None"
    assert states["mxnet"] == "zeros (1,)"
    assert states["jax"] == states["tensorflow"] == "not kept"


def test_after_backward_torch_and_mxnet_have_values(seen: Any) -> None:
    states = seen("targeted-parameter", "gradient after backward")
    assert states["torch"] == states["mxnet"] == "values (1,)"
    assert states["jax"] == states["tensorflow"] == "not kept"


def test_jax_returns_gradients_from_a_transformation_and_tensorflow_from_a_tape(seen: Any) -> None:
    places = seen("targeted-parameter", "gradient lives in")
    assert places["torch"] == "net[2].bias.grad"
    assert places["mxnet"] == "net[1].bias.grad()"
    assert places["jax"] == "returned by jax.grad"
    assert places["tensorflow"] == "returned by tf.GradientTape.gradient"


def test_a_parameter_is_more_than_its_value_but_for_jax(seen: Any) -> None:
    parameters, values = (seen("targeted-parameter", f"{what} object") for what in ("parameter", "value"))
    assert parameters["torch"] == "torch.nn.parameter.Parameter"
    assert parameters["mxnet"] == "mxnet.gluon.parameter.Parameter"
    assert {name for name in FRAMEWORKS if parameters[name] == values[name]} == {"jax"}


# -- one layer -----------------------------------------------------------------------------------------------


def test_keras_and_flax_hold_a_weight_the_other_way_round(seen: Any) -> None:
    shapes = {
        name: lines[0].split(" ", 1)[1] for name, lines in seen("layer-access", "names and shapes").items()
    }
    assert shapes["torch"] == shapes["mxnet"] == "(1, 8)"
    assert shapes["jax"] == shapes["tensorflow"] == "(8, 1)"


def test_the_activation_counts_as_a_layer_in_torch_and_flax(seen: Any) -> None:
    access = {name: lines[0] for name, lines in seen("layer-access", "access").items()}
    assert access["torch"] == "net[2].weight"
    assert access["jax"] == "params['params']['layers_2']['kernel']"
    assert access["mxnet"] == "net[1].weight"
    assert access["tensorflow"] == "net.layers[1].kernel"


# -- tied layers ---------------------------------------------------------------------------------------------


@pytest.fixture(params=["tied-by-construction", "tied-afterwards"])
def tied(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_torch_names_6_tied_parameters_and_8_entries_of_its_state(seen: Any, tied: str) -> None:
    listings = seen(tied, "own listings")["torch"]
    assert len(listings["net.named_parameters()"]) == 6
    assert len(listings["net.state_dict()"]) == 8


def test_keras_lists_a_layer_that_is_used_twice_twice(seen: Any, tied: str) -> None:
    layers = seen(tied, "own listings")["tensorflow"]["net.layers"]
    assert len(layers) == 4
    assert layers[1] == layers[2]
    assert len(set(layers)) == 3


def test_flax_has_3_layers_in_its_params(seen: Any, tied: str) -> None:
    assert len(seen(tied, "own listings")["jax"]["params['params']"]) == 3


def test_mxnet_collects_6_tied_parameters(seen: Any, tied: str) -> None:
    assert len(seen(tied, "own listings")["mxnet"]["net.collect_params()"]) == 6


def test_there_are_121_values_whoever_counts(seen: Any, tied: str) -> None:
    assert seen(tied, "unique values") == dict.fromkeys(COLUMNS, 121)
    counts = seen(tied, "own counts")
    for name in FRAMEWORKS:
        assert 121 in counts[name].values(), name


def test_a_built_model_is_tied_in_place_or_built_anew(seen: Any) -> None:
    models = seen("tied-afterwards", "the model")
    assert models["torch"] == models["mxnet"] == "changed in place"
    assert models["jax"] == "rebuilt; the old one stands apart"
    assert models["tensorflow"] == "rebuilt; the old one shares its layers"


# -- lazy shapes ---------------------------------------------------------------------------------------------


def test_torch_has_uninitialized_parameters_before_the_first_batch(seen: Any) -> None:
    listings = seen("lazy-shapes", "listed before")["torch"]
    assert all("UninitializedParameter" in line for line in listings["net.named_parameters()"])
    assert "uninitialized parameter" in seen("lazy-shapes", "reading parameters before")["torch"]


def test_mxnet_has_shapes_with_a_hole_and_defers_its_initialization(seen: Any) -> None:
    assert "dense0_weight (8, -1)" in seen("lazy-shapes", "listed before")["mxnet"]["net.collect_params()"]
    assert seen("lazy-shapes", "reading parameters before")["mxnet"].startswith("DeferredInitializationError:")


def test_keras_has_layers_and_no_weights_yet(seen: Any) -> None:
    listings = seen("lazy-shapes", "listed before")["tensorflow"]
    assert len(listings["net.layers"]) == 2
    assert listings["net.weights"] == []


def test_flax_has_nothing_before_init(seen: Any) -> None:
    assert not any(seen("lazy-shapes", "listed before")["jax"].values())


def test_only_flax_gives_a_new_model_for_the_first_batch(seen: Any) -> None:
    models = seen("lazy-shapes", "a first batch")
    assert {name for name in FRAMEWORKS if models[name] == "gives a new model"} == {"jax"}


# -- Adam ----------------------------------------------------------------------------------------------------


def test_adam_s_epsilon_is_added_after_the_correction_in_torch_and_optax_before_it_in_the_others(
    seen: Any,
) -> None:
    places = seen("adam-steps", "epsilon is added")
    assert places["torch"] == places["jax"] == places["numpy"] == "after the bias correction"
    assert places["mxnet"] == places["tensorflow"] == "before the bias correction"


# -- life cycles of ties -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def outcomes(comparison: Comparison) -> Callable[[str, str], dict[str, str]]:
    """How each way of a framework ended, in one scenario."""

    def outcomes(scenario: str, column: str) -> dict[str, str]:
        rows = [row for row in comparison.of(scenario) if row.kind == "outcome" and column in row.values]
        return {row.observation: row.values[column]["outcome"] for row in rows}

    return outcomes


def but(outcomes: dict[str, str], word: str = "kept") -> dict[str, str]:
    return {way: outcome for way, outcome in outcomes.items() if outcome != word}


def test_torch_keeps_a_module_s_tie_but_a_functional_call_overwrites_the_original(outcomes: Any) -> None:
    assert but(outcomes("life-cycles-by-module", "torch")) == {"functional call": "corrupted"}


@pytest.mark.parametrize("scenario", ["life-cycles-by-parameter", "life-cycles-of-a-weight"])
def test_torch_silently_unties_parameters_that_are_assigned_or_go_through_meta(
    outcomes: Any, scenario: str
) -> None:
    assert but(outcomes(scenario, "torch")) == {
        "load_state_dict(assign=True)": "broken",
        "to meta and back": "broken",
        "weight_norm and back": "broken",
    }


def test_keras_rebuilds_another_net_from_its_configuration_and_cannot_load_what_it_saved(outcomes: Any) -> None:
    ways = outcomes("life-cycles-by-module", "tensorflow")
    assert ways["rebuild from config"] == "changed"
    assert ways["whole-model file"] == "refused"
    assert ways["clone_model"] == ways["save and load"] == "kept"


def test_keras_has_three_layers_from_the_configuration_of_four(comparison: Comparison) -> None:
    (row,) = [row for row in comparison.of("life-cycles-by-module") if row.observation == "rebuild from config"]
    assert row.values["tensorflow"]["evidence"]["layers"] == "3 where there were 4"


def test_keras_loads_another_net_without_a_word_where_the_tie_is_with_the_last_layer(outcomes: Any) -> None:
    ways = outcomes("life-cycles-of-the-last-layer", "tensorflow")
    assert ways["whole-model file"] == ways["deepcopy"] == ways["pickle"] == "changed"


@pytest.mark.parametrize("scenario", [name for name, one in scenarios().items() if one.group == "lifecycles"])
def test_in_jax_only_a_donation_damages_the_original(outcomes: Any, scenario: str) -> None:
    silent = but(but(outcomes(scenario, "jax")), "refused")
    assert silent == {"jit with donation": "corrupted"}


def test_every_silent_harm_has_a_script_and_nothing_else_has(comparison: Comparison) -> None:
    for row in comparison.rows:
        for value in row.values.values() if row.kind == "outcome" else ():
            assert bool(value["script"]) == (value["outcome"] in ("broken", "changed", "corrupted"))


def test_a_script_that_the_command_prints_shows_it(command: Command, road: Any, tmp_path: Path) -> None:
    printed = command("repro", "torch", "life-cycles-by-module", "functional call", "--offline")
    assert printed.returncode == 0, printed.stderr
    script = tmp_path / "repro.py"
    script.write_text(printed.stdout)
    folder = command("env", "path", "torch").stdout.strip()
    done = subprocess.run([f"{folder}/bin/python", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "outcome: corrupted"


# -- checkpoints ---------------------------------------------------------------------------------------------


def test_of_two_values_the_last_wins_in_torch_and_mxnet_and_the_first_in_keras(outcomes: Any) -> None:
    scenario = "two-values-into-a-tied-module"
    assert outcomes(scenario, "torch")["load_state_dict"] == "last wins"
    assert outcomes(scenario, "torch")["safetensors"] == "error"
    assert outcomes(scenario, "mxnet")["load_parameters"] == "last wins"
    assert outcomes(scenario, "tensorflow")["load_weights"] == "first wins"


def test_a_lenient_load_of_a_tied_file_leaves_a_layer_half_empty(outcomes: Any) -> None:
    scenario = "tied-module-into-two-layers"
    assert outcomes(scenario, "torch")["safetensors(strict=False)"] == "half empty"
    assert outcomes(scenario, "tensorflow")["load_weights(skip_mismatch=True)"] == "half empty"
    assert outcomes(scenario, "torch")["load_state_dict"] == "both filled"


def test_a_missing_entry_is_an_error_unless_one_asks_for_silence(outcomes: Any) -> None:
    ways = outcomes("checkpoint-lacks-an-entry", "torch")
    assert (ways["load_state_dict"], ways["load_state_dict(strict=False)"]) == ("error", "silent")


def test_a_float64_entry_is_cast_without_a_word_or_refused(outcomes: Any) -> None:
    scenario = "checkpoint-of-another-dtype"
    assert outcomes(scenario, "torch")["load_state_dict"] == "silent"
    assert outcomes(scenario, "mxnet")["load_parameters"] == "error"


# -- transfers -----------------------------------------------------------------------------------------------

LOOKED_AT = ("values", "ties", "output", "gradients", "training step")


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_ordered_pair_is_the_same_on_both_sides_and_back_again(seen: Any, example: str) -> None:
    """A row for each source, a cell for each target; that invariants agree is tested for all of them."""
    columns = COLUMNS if EXAMPLES[example].mlp else FRAMEWORKS
    for column in columns:
        for what in LOOKED_AT:
            assert {*seen(f"transfer-{example}", f"{what} from {column}")} == {*columns}
        assert {*seen(f"transfer-{example}", f"back from {column}")} == {*columns}


def test_a_tie_is_the_same_tie_elsewhere(seen: Any) -> None:
    model = seen("transfer-language-model", "ties from torch")
    assert model["tensorflow"] == [["embedding.weight", "projection.weight"]]
    assert len(seen("transfer-tied-mlp", "ties from jax")["mxnet"]) == 2


# -- optimizers ----------------------------------------------------------------------------------------------


def test_weight_decay_is_in_the_gradient_but_in_keras(seen: Any) -> None:
    forms = seen("weight-decay", "SGD's decay is")
    assert forms.pop("tensorflow") == "taken from the weight apart"
    assert set(forms.values()) == {"added to the gradient"}


def test_velocity_is_a_sum_of_gradients_in_torch_and_optax_and_of_steps_in_the_others(seen: Any) -> None:
    forms = {name: form.split(":")[0] for name, form in seen("learning-rate-change", "velocity is a").items()}
    assert forms["torch"] == forms["jax"] == "sum of gradients"
    assert forms["mxnet"] == forms["tensorflow"] == "sum of steps"


def test_torch_and_keras_step_a_parameter_twice_that_is_handed_over_twice(seen: Any) -> None:
    steps = seen("handed-over-twice", "the optimizer")
    assert steps["torch"] == steps["tensorflow"] == "steps it 2 times"
    assert steps["mxnet"].startswith("refused")
    told = seen("handed-over-twice", "a warning")
    assert "duplicate parameters" in told["torch"]
    assert told["tensorflow"] == "none"


def test_mxnet_divides_by_the_batch_size_that_a_step_is_told(seen: Any) -> None:
    told = seen("step-and-batch-size", "a step told 8 examples")
    assert told["mxnet"] == "is 8 times as small as one told 1"
    assert all(told[name].startswith("cannot be told") for name in ("torch", "jax", "tensorflow"))


def test_the_default_decay_of_adamw(seen: Any) -> None:
    defaults = seen("optimizer-defaults", "AdamW")
    decays = {name: defaults[name]["weight_decay"] for name in ("torch", "jax", "tensorflow")}
    assert decays == {"torch": 0.01, "jax": 1e-4, "tensorflow": 0.004}
    assert defaults["mxnet"] == "has none"


def test_the_default_epsilon_of_adam(seen: Any) -> None:
    defaults = seen("optimizer-defaults", "Adam")
    epsilons = {name: defaults[name].get("eps", defaults[name].get("epsilon")) for name in FRAMEWORKS}
    assert epsilons == {"torch": 1e-8, "mxnet": 1e-8, "jax": 1e-8, "tensorflow": 1e-7}


# -- layers --------------------------------------------------------------------------------------------------


def test_only_torch_keeps_the_unbiased_running_variance(seen: Any) -> None:
    kept = seen("batch-norm", "running variance")
    assert {name for name in FRAMEWORKS if kept[name] == "unbiased"} == {"torch"}
    counts = seen("batch-norm", "a new batch counts")
    assert counts["torch"] == counts["mxnet"] == "0.1"
    assert counts["jax"] == counts["tensorflow"] == "0.01"


def test_a_convolution_s_kernel_is_channels_first_or_last(seen: Any) -> None:
    axes = seen("conv2d", "axes")
    assert axes["torch"]["weight"] == axes["mxnet"]["weight"] == "out, in, height, width"
    assert axes["jax"]["kernel"] == axes["tensorflow"]["kernel"] == "height, width, in, out"


# -- the book ------------------------------------------------------------------------------------------------


def test_keras_no_longer_removes_the_duplicate_layer(outcomes: Any, comparison: Comparison) -> None:
    assert outcomes("book-claims", "tensorflow")["a tied layer"] == "no longer holds"
    (row,) = [row for row in comparison.of("book-claims") if row.observation == "a tied layer"]
    assert row.values["tensorflow"]["evidence"]["there is now"] == 4


def test_flax_no_longer_returns_a_frozen_dict(outcomes: Any) -> None:
    assert outcomes("book-claims", "jax")["the last layer's parameters"] == "no longer holds"


def test_the_gradient_is_none_before_the_first_backward(outcomes: Any) -> None:
    assert outcomes("book-claims", "torch")["the gradient before backward"] == "holds"


# -- again, on screens and from Python -----------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 200])
def test_it_is_readable(command: Command, road: Any, width: int) -> None:
    process = command("compare", "-s", "targeted-parameter", "--offline", environ={"COLUMNS": str(width)})
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert max(map(cell_len, lines)) <= width
    for name in FRAMEWORKS:
        assert adapters()[name].title in process.stdout
        assert f"{adapters()[name].distributions[0]} {adapters()[name].pinned}" in process.stdout
    # What is short stands on one line, next to what it belongs to, and is not broken up.
    for words in ("gradient before backward", "net[2].bias.grad", "zeros (1,)", "not kept", "[0.0508]"):
        assert any(words in line for line in lines), words
    assert "2 agree, 0 disagree" in process.stdout


def test_from_python(road: Any) -> None:
    program = (
        "import d2lparams, sys\n"
        "made = d2lparams.compare(['torch'], ['forward'], offline=True)\n"
        "assert made.ok\n"
        "assert 'torch' not in sys.modules\n"
        "print(*(run.name for run in made.columns), *(row.verdict for row in made.of('forward')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["numpy", "torch", "same", *["agree"] * 4]
