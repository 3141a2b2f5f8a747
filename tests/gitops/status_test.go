package gitops

import (
	"context"
	"testing"

	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

// What each recorded object is for tools that know kstatus: Flux, kpt, Config Sync, `cli-utils`.
var wanted = map[string]status.Status{
	"blank":       status.InProgressStatus,
	"pending":     status.InProgressStatus,
	"preparing":   status.InProgressStatus,
	"queued":      status.InProgressStatus,
	"suspended":   status.InProgressStatus,
	"training":    status.InProgressStatus,
	"restarting":  status.InProgressStatus,
	"lost-node":   status.InProgressStatus,
	"merging":     status.InProgressStatus,
	"retried":     status.InProgressStatus,
	"stale":       status.InProgressStatus,
	"succeeded":   status.CurrentStatus,
	"failed":      status.FailedStatus,
	"invalid":     status.FailedStatus,
	"broken-edit": status.FailedStatus,
	"not-allowed": status.FailedStatus,
	"deleting":    status.TerminatingStatus,
}

func TestKstatusOfEveryState(t *testing.T) {
	for _, name := range states(t) {
		result, err := status.Compute(object(t, kind+"/testdata/"+name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if result.Status != wanted[name] {
			t.Errorf("%s is %s (%s), wanted is %q", name, result.Status, result.Message, wanted[name])
		}
	}
	if len(wanted) != len(states(t)) {
		t.Errorf("not recorded, or not wanted: %d states are wanted, %d recorded", len(wanted), len(states(t)))
	}
}

func TestFluxExpressionsSayWhatKstatusSays(t *testing.T) {
	var kustomization struct {
		Spec struct {
			HealthCheckExprs []kustomize.CustomHealthCheck `json:"healthCheckExprs"`
		} `json:"spec"`
	}
	decodeLeniently(t, read(t, folder+"/flux/kustomization.yaml"), &kustomization)
	if len(kustomization.Spec.HealthCheckExprs) != 1 {
		t.Fatal("kustomization.yaml has not one health check")
	}
	check := kustomization.Spec.HealthCheckExprs[0]
	if check.InProgress == "" || check.Failed == "" {
		t.Fatal("an expression is missing")
	}
	evaluator, err := cel.NewStatusEvaluator(&check.HealthCheckExpressions)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range states(t) {
		obj := object(t, kind+"/testdata/"+name+".yaml")
		if obj.GetAPIVersion() != check.APIVersion || obj.GetKind() != check.Kind {
			t.Fatalf("the health check is for %s %s", check.APIVersion, check.Kind)
		}
		result, err := evaluator.Evaluate(context.Background(), obj)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := wanted[name]
		if want == status.TerminatingStatus {
			want = status.InProgressStatus // expressions are not asked about deletions
		}
		if string(result.Status) != string(want) {
			t.Errorf("%s is %s, wanted is %s", name, result.Status, want)
		}
	}
}
