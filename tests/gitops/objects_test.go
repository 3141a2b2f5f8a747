// Package gitops tests what GitOps tools make of QwenSFTJobs, by the tools' own libraries, on objects that record.py
// has recorded from an API server.
package gitops

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

const (
	folder = "../../gitops"
	kind   = folder + "/argocd/resource_customizations/qwensft.io/QwenSFTJob"
)

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// decode reads YAML strictly: a misspelt key is an error.
func decode(t *testing.T, data []byte, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict(data, into); err != nil {
		t.Fatal(err)
	}
}

// decodeLeniently reads a part of a document.
func decodeLeniently(t *testing.T, data []byte, into any) {
	t.Helper()
	if err := yaml.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

// object reads an object with whole numbers as int64, as clients of Kubernetes have them.
func object(t *testing.T, path string) *unstructured.Unstructured {
	t.Helper()
	data, err := yaml.YAMLToJSON(read(t, path))
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(data); err != nil {
		t.Fatal(err)
	}
	return u
}

// states are the names of the recorded objects.
func states(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(kind + "/testdata/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no recorded objects: %v", err)
	}
	names := make([]string, 0, len(paths))
	for _, path := range paths {
		names = append(names, strings.TrimSuffix(filepath.Base(path), ".yaml"))
	}
	return names
}
