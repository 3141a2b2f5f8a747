package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

func provision(t *testing.T, root string) *corev1.PersistentVolume {
	t.Helper()
	reclaim := corev1.PersistentVolumeReclaimDelete
	p := &directoryProvisioner{node: "local", root: root}
	volume, state, err := p.Provision(context.Background(), controller.ProvisionOptions{
		PVName:       "pvc-1",
		StorageClass: &storagev1.StorageClass{ReclaimPolicy: &reclaim},
		PVC: &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "model"},
			Spec:       corev1.PersistentVolumeClaimSpec{AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}},
		},
	})
	if err != nil || state != controller.ProvisioningFinished {
		t.Fatalf("Provision: %v, %v", state, err)
	}
	return volume
}

func TestVolumeIsAWorldWritableDirectoryOnTheNode(t *testing.T) {
	volume := provision(t, t.TempDir())
	info, err := os.Stat(volume.Spec.Local.Path)
	if err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("directory: %v, %v", info, err)
	}
	values := volume.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions[0].Values
	if len(values) != 1 || values[0] != "local" {
		t.Errorf("bound to nodes %v", values)
	}
}

func TestDeleteRemovesTheDirectory(t *testing.T) {
	root := t.TempDir()
	volume := provision(t, root)
	p := &directoryProvisioner{node: "local", root: root}
	if err := p.Delete(context.Background(), volume); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(volume.Spec.Local.Path); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
}

func TestDeleteLeavesDirectoriesThatItDidNotMake(t *testing.T) {
	root, elsewhere := t.TempDir(), t.TempDir()
	p := &directoryProvisioner{node: "local", root: root}
	for _, path := range []string{elsewhere, root, filepath.Join(root, "..", filepath.Base(elsewhere)), filepath.Join(root, "a", "b")} {
		volume := &corev1.PersistentVolume{}
		volume.Spec.Local = &corev1.LocalVolumeSource{Path: path}
		if err := p.Delete(context.Background(), volume); err == nil {
			t.Errorf("%s: no error", path)
		}
	}
	if _, err := os.Stat(elsewhere); err != nil {
		t.Error(err)
	}
}
