"""Specs that name ConfigMaps, Secrets and claims in every place where one may stand."""

from typing import Any

FROM_CLAIMS: dict[str, Any] = {
    "storage": {"volume": {"claimName": "runs"}},
    "model": {"name": "Qwen/Qwen3-8B", "source": {"volume": {"claimName": "models"}}},
    "datasets": [{"name": "rows", "format": "alpaca", "source": {"volume": {"claimName": "data", "path": "a.json"}}}],
    "evaluation": {
        "datasets": [
            {"name": "held", "format": "alpaca", "source": {"volume": {"claimName": "eval", "path": "b.json"}}}
        ]
    },
}


def rows(name: str, config_map: str) -> dict[str, Any]:
    return {"name": name, "format": "alpaca", "source": {"configMap": {"name": config_map, "key": "rows.json"}}}


def variable(name: str, **origin: Any) -> dict[str, Any]:
    return {"name": name, "valueFrom": origin}


HUB = {"repo": "acme/rows", "tokenSecretRef": {"name": "hub", "key": "token"}}
FROM_MAPS: dict[str, Any] = {
    "model": {"name": "Qwen/Qwen3-8B", "source": {"huggingFace": {"tokenSecretRef": {"name": "hub", "key": "model"}}}},
    "datasets": [
        rows("a", "rows-a"),
        {"name": "b", "format": "alpaca", "source": {"modelScope": HUB}},
        {
            "name": "c",
            "format": "alpaca",
            "source": {"url": {"url": "s3://bucket/c.json", "credentialsSecretRef": {"name": "s3"}}},
        },
    ],
    "evaluation": {"datasets": [rows("held", "rows-held")]},
    "distribution": {"deepspeed": {"config": {"name": "zero", "key": "zero.json"}}},
    "worker": {
        "env": [
            variable("PROXY", configMapKeyRef={"name": "site", "key": "proxy"}),
            variable("PASSWORD", secretKeyRef={"name": "site", "key": "password"}),
        ]
    },
}
