"""What stands in run.yaml, the trainer's own configuration."""

from __future__ import annotations

from typing import Any

import pytest

from qwensft.api.v1alpha1 import QwenSFTJob, Stage, Status
from qwensft_operator.render import config_map
from qwensft_operator.render.run import COLUMNS, TAGS

from .jobs import SPECS, job, load, pod_spec, run


def test_the_run_knows_its_owner_directory_and_method() -> None:
    configuration = run()
    assert configuration["owner"] == {"uid": job().metadata.uid, "namespace": "team", "name": "support"}
    assert configuration["runDirectory"] == "/workspace/support-0f1e2d3c"
    assert (configuration["onExisting"], configuration["tuning"]) == ("Fail", {"method": "lora"})
    assert configuration["accelerator"] == {"count": 1}


@pytest.mark.parametrize(
    ("source", "download"),
    [
        (None, {"hub": "huggingFace", "repo": "Qwen/Qwen3-8B"}),
        ({"huggingFace": {"repo": "me/q"}}, {"hub": "huggingFace", "repo": "me/q"}),
        ({"modelScope": {"revision": "v1"}}, {"hub": "modelScope", "repo": "Qwen/Qwen3-8B", "revision": "v1"}),
        (
            {"huggingFace": {"endpoint": "https://hub.example.com"}},
            {"hub": "huggingFace", "repo": "Qwen/Qwen3-8B", "endpoint": "https://hub.example.com"},
        ),
        ({"volume": {"claimName": "models"}}, None),
        ({"image": {"reference": "registry.example/qwen3:1"}}, None),
        ({"run": {"name": "first"}}, None),
    ],
)
def test_a_model_is_downloaded_unless_it_is_mounted(source: dict[str, Any] | None, download: object) -> None:
    model = {"name": "Qwen/Qwen3-8B"} | ({"source": source} if source else {})
    assert run(model=model)["model"].get("download") == download


BEGUN = {
    "name": "first",
    "uid": "9a9a9a9a-1",
    "claimName": "runs",
    "path": "first-9a9a9a9a/merged",
    "digest": f"sha256:{'ab' * 32}",
}


def second(**spec: Any) -> QwenSFTJob:
    """A run that has begun with the model of another."""
    rendered = job(model={"name": "Qwen/Qwen3-8B", "source": {"run": {"name": "first"}}}, **spec)
    return rendered.replace(status=Status.model_validate({"sourceRun": BEGUN}))


@pytest.mark.parametrize("stage", Stage)
def test_every_stage_compares_and_reads_the_model_with_which_the_run_has_begun(stage: Stage) -> None:
    data = config_map(second(), stage, 3)["data"]
    written = load(data["run.yaml"])
    assert written["model"] == {
        "name": "Qwen/Qwen3-8B",
        "path": "/model/first-9a9a9a9a/merged",
        "template": "qwen3",
        "mergedBy": {"name": "first", "uid": "9a9a9a9a-1", "digest": BEGUN["digest"]},
    }
    assert written["version"] == 3, "an image that does not know mergedBy would compare nothing"
    arguments = load(data["export.yaml" if stage is Stage.MERGE else "train.yaml"])
    assert arguments["model_name_or_path"] == "/model/first-9a9a9a9a/merged"
    pod = pod_spec(second(), stage)
    assert {"name": "model", "persistentVolumeClaim": {"claimName": "runs"}} in pod["volumes"]
    assert {"name": "model", "mountPath": "/model", "readOnly": True} in pod["containers"][0]["volumeMounts"]


def test_two_runs_on_one_volume_have_it_mounted_twice_and_read_the_model_only() -> None:
    pod = pod_spec(second(storage={"volume": {"claimName": "runs"}}), "train")
    assert [v["name"] for v in pod["volumes"] if "persistentVolumeClaim" in v] == ["workspace"]
    read_only = {m["mountPath"]: m["readOnly"] for m in pod["containers"][0]["volumeMounts"]}
    assert (read_only["/workspace"], read_only["/model"]) == (False, True)


def test_what_only_the_other_run_will_tell_stands_in_capitals_until_then() -> None:
    """As `kubectl qwensft render` shows it; nothing is made of it."""
    written = run(model={"name": "Qwen/Qwen3-8B", "source": {"run": {"name": "first"}}})["model"]
    assert written["path"] == "/model/first-UID-OF-THE-RUN/merged"
    assert written["mergedBy"] == {"name": "first", "uid": "UID-OF-THE-RUN", "digest": "DIGEST-OF-ITS-MODEL"}


def test_only_the_merge_is_told_where_to_merge_to() -> None:
    assert run("full-1-node-2-gpus", "merge")["merge"] == {
        "directory": "/workspace/support-0f1e2d3c/export/hf",
        "engine": "llamafactory",
        "verify": "tensors",
        "dtype": "bf16",
    }
    assert "merge" not in run()


def test_prepare_knows_whether_a_merge_is_to_come() -> None:
    assert run(stage="prepare")["mergePlanned"] is True
    assert run(stage="prepare", merge={"enabled": False})["mergePlanned"] is False
    assert "mergePlanned" not in run(stage="merge")


def test_rows_go_to_the_log_only_if_the_user_says_so() -> None:
    assert "prepare" not in run()
    assert run(prepare={"preview": "Log"})["prepare"] == {"preview": "Log"}


def test_every_column_and_tag_is_written_out() -> None:
    chats, rows = run("model-and-data-on-a-volume")["datasets"]
    assert rows["columns"] == COLUMNS["alpaca"]
    assert "tags" not in rows
    assert chats["columns"].keys() == COLUMNS["sharegpt"].keys()
    assert chats["tags"].keys() == {f"{name}_tag" for name in TAGS["sharegpt"]}


def test_the_users_names_replace_the_usual_ones() -> None:
    chats, _ = run("model-and-data-on-a-volume")["datasets"]
    assert chats["columns"] == COLUMNS["sharegpt"] | {"messages": "messages"}
    assert (chats["tags"]["role_tag"], chats["tags"]["function_tag"]) == ("role", "function_call")
    assert (chats["path"], chats["sampleCount"]) == ("/datasets/chats/sft/chats.jsonl", 5000)


def test_names_in_any_script_reach_the_trainer() -> None:
    rows = SPECS["lora-1-gpu-hub"]["datasets"][0] | {"columns": {"prompt": "问题", "response": "回答"}}
    data = config_map(job(datasets=[rows]), Stage.TRAIN, 1)["data"]["run.yaml"]
    assert "prompt: 问题" in data


def test_the_file_carries_its_version_and_that_of_the_operator() -> None:
    for stage in Stage:
        assert (run(stage=stage)["version"], run(stage=stage)["operatorVersion"]) == (1, "0.1.0")


def test_what_an_older_image_would_leave_undone_raises_the_version() -> None:
    assert run(evaluation={"fraction": 0.1})["version"] == 1
    assert run(evaluation={"fraction": 0.1, "keepBest": True})["version"] == 2
    assert run(evaluation={"fraction": 0.1, "earlyStopping": {"patience": 1}})["version"] == 2
    rows = SPECS["lora-1-gpu-hub"]["datasets"][0]
    assert config_map(job(datasets=[rows | {"controlTokens": "Refuse"}]), Stage.TRAIN, 1)["data"][
        "run.yaml"
    ].startswith("version: 2")
    assert config_map(job(datasets=[rows | {"ignore": ["weight"]}]), Stage.TRAIN, 1)["data"]["run.yaml"].startswith(
        "version: 2"
    )


# Sources.


def datasets(case: str = "every-source") -> dict[str, dict[str, Any]]:
    return {dataset["name"]: dataset for dataset in run(case)["datasets"]}


def test_a_dataset_is_mounted_or_downloaded_and_never_both() -> None:
    assert all(("path" in dataset) != ("download" in dataset) for dataset in datasets().values())
    assert datasets()["support"]["path"] == "/datasets/support/rows.json"


@pytest.mark.parametrize(
    ("name", "download"),
    [
        (
            "huggingface-private",
            {
                "hub": "huggingFace",
                "repo": "team/rows",
                "subset": "de",
                "split": "train",
                "credentials": "/secrets/huggingface-private",
            },
        ),
        (
            "modelscope-public",
            {"hub": "modelScope", "repo": "team/more", "revision": "v2", "path": "a.parquet", "endpoint": "http://h"},
        ),
        (
            "url-private",
            {"hub": "url", "url": "s3://rows/a.csv", "sha256": "0" * 64, "credentials": "/secrets/url-private"},
        ),
    ],
)
def test_a_download_says_what_the_user_said_and_no_more(name: str, download: dict[str, Any]) -> None:
    assert datasets()[name]["download"] == download


def test_messages_of_role_and_content_need_no_tags_of_the_user() -> None:
    dataset = datasets()["url-private"]
    assert dataset["columns"]["messages"] == "messages"
    assert dataset["tags"] == {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
        "observation_tag": "tool",
        "function_tag": "function_call",
        "system_tag": "system",
    }


@pytest.mark.parametrize("format_", COLUMNS)
def test_images_and_videos_have_their_usual_columns_in_every_format(format_: str) -> None:
    assert {"images": "images", "videos": "videos"}.items() <= COLUMNS[format_].items()


def test_the_cache_is_a_directory_on_its_claim() -> None:
    assert run("every-source")["model"]["cache"] == "/cache/hubs"
    model = {"name": "Qwen/Qwen3-8B", "cache": {"claimName": "models"}}
    assert run(model=model)["model"]["cache"] == "/cache"
    assert "cache" not in run()["model"]


def test_a_template_is_told_where_it_is_known() -> None:
    assert run()["model"]["template"] == "qwen3"
    assert "template" not in run("every-source")["model"]


def test_mixing_and_weights_are_told() -> None:
    assert run("every-source")["mixing"] == {"strategy": "interleave_under"}
    assert [dataset["weight"] for dataset in datasets().values()] == [3, 1, 0.5, 1, 2]
    assert run()["mixing"] == {"strategy": "concat"}


def test_what_evaluations_decide_is_told_only_where_they_do() -> None:
    assert run(evaluation={"fraction": 0.1})["evaluation"] == {"fraction": 0.1}
    evaluation = {"fraction": 0.1, "keepBest": True, "earlyStopping": {"patience": 3}}
    assert run(evaluation=evaluation)["evaluation"] == {
        "fraction": 0.1,
        "keepBest": True,
        "earlyStopping": {"patience": 3, "minDelta": 0.0},
    }


def test_evaluation_is_a_fraction_or_datasets_in_full() -> None:
    assert run(evaluation={"fraction": 0.1})["evaluation"] == {"fraction": 0.1}
    held_out, fetched = run("every-source")["evaluation"]["datasets"]
    assert held_out["path"] == "/datasets/held-out/rows.json"
    assert fetched["download"] == {"hub": "url", "url": "https://data.example.com/b.json"}
    assert "evaluation" not in run()


def test_samples_are_told_apart_from_what_is_evaluated_and_change_nothing_else() -> None:
    asked = run(evaluation={"fraction": 0.1, "samples": 4})
    assert asked == run(evaluation={"fraction": 0.1}) | {"samples": {"count": 4}}
    assert run(evaluation={"samples": 4}) == run() | {"samples": {"count": 4}}
    assert "samples" not in run(evaluation={"fraction": 0.1, "samples": 0})


@pytest.mark.parametrize(
    ("tuning", "told"),
    [
        ({"method": "full"}, {"method": "full"}),
        ({"method": "freeze"}, {"method": "freeze"}),
        ({"method": "qlora"}, {"method": "lora", "quantization": {"bits": 4, "method": "bnb"}}),
        (
            {"method": "dora", "quantization": {"bits": 8}},
            {"method": "lora", "quantization": {"bits": 8, "method": "bnb"}, "dora": True},
        ),
        ({"lora": {"pissa": True}}, {"method": "lora", "pissa": True}),
    ],
)
def test_the_trainer_knows_the_method(tuning: dict[str, Any], told: dict[str, Any]) -> None:
    assert run(tuning=tuning)["tuning"] == told
