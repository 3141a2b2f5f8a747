"""The command line: `python -m quickstart {run|setup|images}`; the Makefile is how people call it."""

from __future__ import annotations

import argparse
import sys

from quickstart import follow, images, inputs, report
from quickstart.cluster import Cluster, LocalCluster, choose
from quickstart.setup import STEPS, setup
from quickstart.steps import QuickstartError, Steps, clock

NAMESPACE = "qwensft-quickstart"
NAME = "quickstart"


def build_images() -> None:
    """Build the images, without a cluster."""
    cluster = choose()
    steps = Steps(2)
    with steps.step("looking for the tools needed") as step:
        cluster.install_tools(step.task().begin)
    with steps.step("building the images") as step:
        images.build(cluster, step.task().begin)


def set_up() -> None:
    """Cluster, images and operator, without a job."""
    steps = Steps(STEPS)
    setup(choose(), steps)
    print(f"The operator runs ({clock(steps.elapsed)}).")


def quickstart() -> None:
    """Run everything: setup, the example, the report."""
    cluster = choose()
    steps = Steps(STEPS + 4)
    ready = setup(cluster, steps)
    with steps.step("putting a tiny Qwen3 and the training rows into the cluster"):
        inputs.provide(ready, NAMESPACE)
    with steps.step(f"creating the QwenSFTJob {NAMESPACE}/{NAME}"):
        ready.kubectl.delete(follow.RESOURCE, NAME, "-n", NAMESPACE)
        ready.kubectl.apply(*inputs.documents(inputs.EXAMPLES / "quickstart.yaml", NAMESPACE))
    steps.line.end(f"[{STEPS + 3}/{STEPS + 4}] fine-tuning: prepare → train on 2 pods → merge")
    steps.number += 1
    job = follow.follow(ready.kubectl, NAMESPACE, NAME)
    with steps.step("asking the base and the merged model"):
        found = report.collect(ready, job)
    report.show(ready, job, found)
    report.judge(found)
    conclude(cluster, steps, found)


def conclude(cluster: Cluster, steps: Steps, found: report.Report) -> None:
    """Say how it ended and what to try next."""
    learned = sum(item.merged == item.expected for item in found.asked)
    first, last = found.losses[0][1], found.losses[-1][1]
    hints = [
        (f"kubectl get qsft -n {NAMESPACE} {NAME} -o yaml", "status, conditions, outputs"),
        ("kubectl explain qwensftjob.spec.training", "every field, with its default"),
        ("kubectl apply -f examples/qwen3-8b-lora.yaml", "a real model, on a GPU"),
        ("make quickstart", "again; cluster and images are kept"),
    ]
    if isinstance(cluster, LocalCluster):
        hints = [
            ('eval "$(local-cluster/cluster env)"', "kubectl and helm for the local cluster"),
            *hints,
            ("make cluster-down", "stop the local cluster"),
        ]
    print(
        f"\nQuickstart succeeded in {clock(steps.elapsed)}: {learned} of {len(found.asked)} questions learned, "
        f"loss {first:.2f} → {last:.2f}.\n\nNext:"
    )
    for command, meaning in hints:
        print(f"  {command:<58} # {meaning}")


def main() -> int:
    """Parse the command line; 0 when all went well, 1 with the reason on standard error otherwise."""
    commands = {"run": quickstart, "setup": set_up, "images": build_images}
    parser = argparse.ArgumentParser(prog="quickstart", description=__doc__)
    parser.add_argument("command", choices=commands)
    options = parser.parse_args()
    try:
        commands[options.command]()
    except QuickstartError as failure:
        print(f"\nquickstart {options.command} failed: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nquickstart {options.command} was interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
