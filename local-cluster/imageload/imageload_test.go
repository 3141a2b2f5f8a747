package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestLinkedLayersShareFilesAndKeepAttributes(t *testing.T) {
	source, target := t.TempDir(), t.TempDir()
	write(t, filepath.Join(source, "app", "main.py"), "print()")
	if err := os.Symlink("main.py", filepath.Join(source, "app", "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(source, "app"), 0o750|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	if err := linkTree(source, target); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"app/main.py", "app/link"} {
		a, err := os.Lstat(filepath.Join(source, name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.Lstat(filepath.Join(target, name))
		if err != nil {
			t.Fatal(err)
		}
		if !os.SameFile(a, b) {
			t.Errorf("%s was copied, not linked", name)
		}
	}
	a, _ := os.Stat(filepath.Join(source, "app"))
	b, _ := os.Stat(filepath.Join(target, "app"))
	if a.Mode() != b.Mode() || !a.ModTime().Equal(b.ModTime()) {
		t.Errorf("directory attributes differ: %v %v, %v %v", a.Mode(), a.ModTime(), b.Mode(), b.ModTime())
	}
}

func TestDeletedFilesAndOpaqueDirectoriesStayMarked(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("overlayfs markers need root")
	}
	source, target := t.TempDir(), t.TempDir()
	if err := unix.Mknod(filepath.Join(source, "deleted"), unix.S_IFCHR, 0); err != nil {
		t.Skip("no character devices here:", err)
	}
	opaque := filepath.Join(source, "opaque")
	if err := os.Mkdir(opaque, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(opaque, "trusted.overlay.opaque", []byte("y"), 0); err != nil {
		t.Skip("no extended attributes here:", err)
	}
	if err := linkTree(source, target); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(target, "deleted"), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		t.Errorf("the deletion marker was lost: %v, %v", st, err)
	}
	value := make([]byte, 8)
	if n, err := unix.Getxattr(filepath.Join(target, "opaque"), "trusted.overlay.opaque", value); err != nil || string(value[:n]) != "y" {
		t.Errorf("the opaque marker was lost: %v", err)
	}
}

// storage lays out containers/storage with one image of two layers.
func storage(t *testing.T) string {
	root := t.TempDir()
	write(t, filepath.Join(root, "overlay-images", "images.json"),
		`[{"id": "abc", "names": ["localhost/app:1", "localhost/app:latest"], "layer": "top"}]`)
	// "=" and the base64 of "sha256:abc"
	write(t, filepath.Join(root, "overlay-images", "abc", "=c2hhMjU2OmFiYw=="), `{"rootfs": {"type": "layers", "diff_ids": ["sha256:1", "sha256:2"]}}`)
	write(t, filepath.Join(root, "overlay-layers", "layers.json"),
		`[{"id": "top", "parent": "base", "diff-digest": "sha256:2", "diff-size": 20}, {"id": "base", "diff-digest": "sha256:1", "diff-size": 10}]`)
	return root
}

func TestAnyOfBuildahsSpellingsFindsTheImage(t *testing.T) {
	root := storage(t)
	for name, full := range map[string]string{
		"localhost/app:1": "localhost/app:1",
		"app:1":           "localhost/app:1",
		"app":             "localhost/app:latest",
	} {
		img, err := readStorage(root, name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if img.name != full || len(img.layers) != 2 || img.layers[0].diffID != "sha256:1" || img.layers[1].size != 20 {
			t.Errorf("%s: got %s with layers %+v", name, img.name, img.layers)
		}
	}
}

func TestUnknownImageIsNamedInTheError(t *testing.T) {
	if _, err := readStorage(storage(t), "other:1"); err == nil || !strings.Contains(err.Error(), "other:1") {
		t.Errorf("got %v", err)
	}
}

func TestLayersOtherThanTheConfigsAreRefused(t *testing.T) {
	img, err := readStorage(storage(t), "app:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chainIDs(img); err != nil {
		t.Errorf("a whole image was refused: %v", err)
	}
	img.layers = img.layers[:1]
	if _, err := chainIDs(img); err == nil {
		t.Error("an image with a missing layer was accepted")
	}
}
