from pathlib import Path

import pytest

from unet_keras.config import Config, differences, load, save
from unet_keras.errors import InputError

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "experiment.yaml"
    path.write_text(text)
    return path


def test_without_file_and_overrides_the_defaults_hold() -> None:
    assert load() == Config()


def test_overrides_come_after_the_file_and_the_file_after_the_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, "seed: 3\npipeline: {crop: [64, 96], batch_size: 2}\n")
    config = load(path, ["pipeline.batch_size=7"])
    assert (config.seed, config.pipeline.crop, config.pipeline.batch_size) == (3, (64, 96), 7)
    assert config.model == Config().model


def test_scientific_notation_is_a_number_in_files_and_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, "train: {phases: [{learning_rate: 1e-4}, {epochs: 2}]}\n")
    config = load(path, ["train.phases.1.learning_rate=2e-5"])
    assert [phase.learning_rate for phase in config.train.phases] == [1e-4, 2e-5]
    assert config.train.phases[1].epochs == 2


@pytest.mark.parametrize(
    "text", ["/data/exp #1/records", "2024_01_15", "007", "12:30", "1.50", "yes", "null", "[a]"]
)
def test_texts_are_taken_as_they_are(text: str) -> None:
    assert load(overrides=[f"records.path={text}"]).records.path == text
    assert load(overrides=[f"records.path='{text}'"]).records.path == text


def test_texts_may_be_empty() -> None:
    for override in ("source.license=", "source.license=''"):
        assert load(overrides=[override]).source.license == ""


@pytest.mark.parametrize("name", ["split_by_group", "split_in_order"])
def test_lists_and_another_way_to_split_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=rf"source\.{name} and source\.lists both say"):
        load(overrides=["source.lists=splits", f"source.{name}=true"])


def test_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "own.yaml"
    file.write_text("train: {run_dir: ~/runs/a}")
    config = load(file, ["records.path=~/records", "source.license=~"])
    assert config.records.path == f"{tmp_path}/records"
    assert config.train.run_dir == f"{tmp_path}/runs/a"
    assert config.source.license == "~"


def test_an_override_may_contain_an_equals_sign() -> None:
    assert load(overrides=["source.images=a=b"]).source.images == "a=b"


def test_saved_configs_load_to_equal_ones(tmp_path: Path) -> None:
    config = load(
        overrides=["train.phases=[{epochs: 2}, {epochs: 3}]", "loss.class_weights=[2, 1]"]
    )
    save(config, tmp_path / "config.yaml")
    assert load(tmp_path / "config.yaml") == config


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_load_and_differ_from_the_defaults(path: Path) -> None:
    assert differences(load(path), Config())


def test_differences_name_the_key_and_both_values() -> None:
    assert differences(Config(), load(overrides=["seed=4"])) == ["seed: 0 != 4"]
    assert differences(Config(), Config()) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.foo=7", r"train.foo=7: Key 'foo' not in 'Train'"),
        ("tran.run_dir=x", r"Key 'tran' not in 'Config'. Did you mean: 'train'"),
        ("seed=x", r"seed=x: .*could not be converted to Integer"),
        ("seed", r"'seed' is no override: write key.path=value"),
        ("pipeline.crop=[1, 2, 3]", r"pipeline.crop=.1, 2, 3..*default is pipeline.crop=.256"),
        ("pipeline.crop=[1, a]", r"pipeline.crop=.1, .a..: an element could not be converted"),
        (
            "pipeline.crop.0=128",
            r"crop.0=128: give all of its values, in brackets, such as pipeline.crop=\[256,256\]",
        ),
        ("pipeline.crop=[0, 16]", r"pipeline.crop=0 must be above 0"),
        ("pipeline=null", r"pipeline=None"),
        ("train.phases.4.epochs=1", r"train.phases.4.epochs=1: there is no such element"),
        ("train.phases.0.epochs=few", r"^train.phases.0.epochs=few: .*is train.phases.0.epochs=20"),
        ("train.phases.0.learning_rate=.inf", r"learning_rate=inf must be finite"),
        ("train.phases.0.dice=.inf", r"dice=inf must be at least 0 and finite"),
        ("train.optimizer.kind=adamw", r"^train.optimizer.kind=adamw: .*is train.optimizer.kind=a"),
        ("train.optimizer.betas=[0.9]", r"betas=\(0.9,\): it has 1 numbers, expected 2"),
        ("train.optimizer.clip_norm=.inf", r"clip_norm=inf must be at least 0 and finite"),
        ("augment.contrast=1.5", r"augment.contrast=1.5 must be below 1: a share"),
        ("targets.sigma_pixels=.inf", r"targets.sigma_pixels=inf must be finite"),
        ("loss.class_weights=[0, 0]", r"class_weights=\[0, 0\] leave every pixel out"),
        ("train.run_dir=.", r"train.run_dir='.' must name a folder of its own"),
        ("train.phases=[]", r"train.phases is empty: give at least one phase"),
        ("train.phases=[{epoch: 1}]", r"Did you mean: 'epochs'"),
        ("source.kind=zip", r"source.kind=zip: .*expected one of"),
        ("source.kind=coco", r"source.images is empty.*give source.images=FOLDER"),
        ("source.group_pattern=(", r"source.group_pattern='\(' is no regular expression"),
        ("source.group_pattern=abc", r"must have a group in parentheses"),
        ("source.fractions=[0.5, 0.5, 0.5]", r"must be at least 0 and add up to 1"),
        ("records.maps=[distance]", r"needs the border map.*set loss.border_weight=0"),
        ("records.maps=[borders]", r"records.maps=\['borders'\] may name each of"),
        ("augment.zoom=[1.2, 0.8]", r"augment.zoom=\(1.2, 0.8\) must be two numbers above 0"),
        ("evaluate.threshold=1", r"evaluate.threshold=1.0 must be in \(0, 1\)"),
        ("seed=-1", r"seed=-1 must be in"),
        ("source.counts=1", r"source.counts=1: several values .*, such as source.counts=.12,3,3"),
        ("batch_size=4", r"batch_size=4: .*did you mean pipeline.batch_size\?"),
        ("kind=coco", r"kind=coco: Key 'kind' not in 'Config'"),
        ("records.path=", r"records.path is empty: name a folder"),
        (
            "source.images=${HOME}/a",
            r"^source.images: .*'HOME' not found; \$\{oc.env:NAME\} is the",
        ),
        ("train.run_dir=runs/\udcff", r"train.run_dir='runs/.udcff' is no text in UTF-8"),
        ("source=5", r"source=5: a section is expected, with keys such as kind"),
    ],
)
def test_mistakes_name_the_key_the_value_and_the_way_out(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(overrides=[override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "holds no keys such as `seed: 0`"),
        ("a: [", "is no YAML"),
        ("seed: 1\nseed: 2", "found duplicate key seed"),
        ("seed: 1.5", r"experiment.yaml: seed=1.5: .*converted to Integer"),
        ("loss: 3", r"experiment.yaml: loss=3"),
        (
            "#!/bin/sh\nset -e\nrun it\n",
            r"or a single value; it begins with '#!/bin/sh'$",
        ),
        ("word " * 99, rf"begins with '{'word ' * 16}'$"),
        ("5", "holds no keys such as `seed: 0`"),
        ("~: 3", "Incompatible key type"),
        ("source: {images: 'data/${foo'}", "is no YAML: no viable alternative"),
        ("source: [1]", r"experiment.yaml: source=\[1\]: a section is expected"),
        ("source: {counts: 1}", r"source.counts=1: several values in brackets are expected .the"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(write(tmp_path, text))
    assert "experiment.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_absent_file_is_named() -> None:
    with pytest.raises(InputError, match=r"nowhere.yaml: there is no such config file"):
        load("nowhere.yaml")


def test_class_weights_are_numbers_or_a_word(tmp_path: Path) -> None:
    for value, expected in (("[2, 1]", [2.0, 1.0]), ("balanced", "balanced"), ("[]", [])):
        config = load(overrides=[f"loss.class_weights={value}"])
        assert config.loss.class_weights == expected
        save(config, tmp_path / "config.yaml")
        assert load(tmp_path / "config.yaml") == config
        replaced = load(tmp_path / "config.yaml", ["loss.class_weights=[3, 4]"])
        assert replaced.loss.class_weights == [3.0, 4.0]
    for value in ("even", "[a]", "[-1]", "3", "'12'", "[1, .nan]", "[1, .inf]"):
        with pytest.raises(InputError, match=r"must be numbers of at least 0, such as \[2, 1\]"):
            load(overrides=[f"loss.class_weights={value}"])
    with pytest.raises(InputError, match=r"loss.border_weight=inf must be at least 0 and finite"):
        load(overrides=["loss.border_weight=.inf"])


def test_clipping_on_several_devices_is_refused() -> None:
    with pytest.raises(InputError, match="own limit with"):
        load(overrides=["train.distribute=mirrored", "train.optimizer.clip_norm=1"])
