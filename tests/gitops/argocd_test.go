package gitops

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// The forms of health_test.yaml and action_test.yaml are Argo CD's.

type health struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

type healthTests struct {
	Tests []struct {
		InputPath    string `json:"inputPath"`
		HealthStatus health `json:"healthStatus"`
	} `json:"tests"`
}

type action struct {
	Name      string `json:"name"`
	IconClass string `json:"iconClass"`
}

type actionTests struct {
	DiscoveryTests []struct {
		InputPath string   `json:"inputPath"`
		Result    []action `json:"result"`
	} `json:"discoveryTests"`
	ActionTests []struct {
		Action             string `json:"action"`
		InputPath          string `json:"inputPath"`
		ExpectedOutputPath string `json:"expectedOutputPath"`
	} `json:"actionTests"`
}

func TestHealthOfEveryState(t *testing.T) {
	var tests healthTests
	decode(t, read(t, kind+"/health_test.yaml"), &tests)
	script := string(read(t, kind+"/health.lua"))
	var tested []string
	for _, test := range tests.Tests {
		name := strings.TrimSuffix(filepath.Base(test.InputPath), ".yaml")
		tested = append(tested, name)
		t.Run(name, func(t *testing.T) {
			var got health
			decode(t, runLua(t, script, object(t, filepath.Join(kind, test.InputPath))), &got)
			if got != test.HealthStatus {
				t.Errorf("got  %+v\nwant %+v", got, test.HealthStatus)
			}
		})
	}
	slices.Sort(tested)
	if recorded := states(t); !slices.Equal(tested, recorded) {
		t.Errorf("health_test.yaml has the states %v, recorded are %v", tested, recorded)
	}
}

func TestActionsThatAreOffered(t *testing.T) {
	var tests actionTests
	decode(t, read(t, kind+"/actions/action_test.yaml"), &tests)
	script := string(read(t, kind+"/actions/discovery.lua"))
	var tested []string
	for _, test := range tests.DiscoveryTests {
		name := strings.TrimSuffix(filepath.Base(test.InputPath), ".yaml")
		tested = append(tested, name)
		t.Run(name, func(t *testing.T) {
			result := runLua(t, script, object(t, filepath.Join(kind, "actions", test.InputPath)))
			got := map[string]action{}
			if string(result) != "[]" { // an empty table
				decode(t, result, &got)
			}
			want := map[string]action{}
			for _, one := range test.Result {
				want[one.Name] = action{IconClass: one.IconClass}
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	slices.Sort(tested)
	if recorded := states(t); !slices.Equal(tested, recorded) {
		t.Errorf("action_test.yaml has the states %v, recorded are %v", tested, recorded)
	}
}

func TestWhatActionsDo(t *testing.T) {
	var tests actionTests
	decode(t, read(t, kind+"/actions/action_test.yaml"), &tests)
	tested := map[string]bool{}
	for _, test := range tests.ActionTests {
		tested[test.Action] = true
		t.Run(test.Action, func(t *testing.T) {
			script := string(read(t, filepath.Join(kind, "actions", test.Action, "action.lua")))
			before := object(t, filepath.Join(kind, "actions", test.InputPath))
			data, err := before.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			got := withEmptyMaps(plain(t, runLua(t, script, before)), plain(t, data))
			expected, err := object(t, filepath.Join(kind, "actions", test.ExpectedOutputPath)).MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			if want := plain(t, expected); !reflect.DeepEqual(got, any(want)) {
				found, _ := json.MarshalIndent(got, "", " ")
				t.Errorf("%s is not made; got\n%s", test.ExpectedOutputPath, found)
			}
		})
	}
	for _, name := range actionNames(t) {
		if !tested[name] {
			t.Errorf("no test runs the action %s", name)
		}
	}
}

// What people install is the same scripts, in the form that Argo CD reads from argocd-cm.
func TestTheConfigMapHoldsTheseScripts(t *testing.T) {
	var configMap struct {
		APIVersion string            `json:"apiVersion"`
		Kind       string            `json:"kind"`
		Metadata   map[string]any    `json:"metadata"`
		Data       map[string]string `json:"data"`
	}
	decode(t, read(t, folder+"/argocd/argocd-cm.yaml"), &configMap)
	if got := configMap.Data["resource.customizations.health.qwensft.io_QwenSFTJob"]; got != string(read(t, kind+"/health.lua")) {
		t.Error("the health check is another: run `make generate`")
	}
	var actions struct {
		Discovery   string `json:"discovery.lua"`
		Definitions []struct {
			Name   string `json:"name"`
			Action string `json:"action.lua"`
		} `json:"definitions"`
	}
	decode(t, []byte(configMap.Data["resource.customizations.actions.qwensft.io_QwenSFTJob"]), &actions)
	if actions.Discovery != string(read(t, kind+"/actions/discovery.lua")) {
		t.Error("discovery.lua is another: run `make generate`")
	}
	var names []string
	for _, one := range actions.Definitions {
		names = append(names, one.Name)
		if one.Action != string(read(t, filepath.Join(kind, "actions", one.Name, "action.lua"))) {
			t.Errorf("the action %s is another: run `make generate`", one.Name)
		}
	}
	if want := actionNames(t); !slices.Equal(names, want) {
		t.Errorf("the ConfigMap has the actions %v, the folder %v", names, want)
	}
}

// actionNames are the folders with an action, sorted.
func actionNames(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(kind + "/actions")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() && entry.Name() != "testdata" {
			names = append(names, entry.Name())
		}
	}
	return names
}
