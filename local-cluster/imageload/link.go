package main

// Fills a snapshot from a layer's directory by hard links: no bytes are copied and none are stored
// twice. Both sides use overlayfs and its markers (character devices 0/0, trusted.overlay.opaque) for
// deleted files, and neither ever changes a committed layer, so the files may be shared.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

func linkTree(source, target string) error {
	directories, err := linkFiles(source, target)
	if errors.Is(err, unix.EXDEV) {
		return copyTree(source, target)
	}
	if err != nil {
		return err
	}
	// Last, since adding an entry changes a directory's modification time.
	for _, relative := range directories {
		destination := filepath.Join(target, relative)
		if err := copyAttributes(filepath.Join(source, relative), destination); err != nil {
			return &os.PathError{Op: "copy attributes to", Path: destination, Err: err}
		}
	}
	return nil
}

// linkFiles returns the directories it made, relative to both trees.
func linkFiles(source, target string) ([]string, error) {
	var directories []string
	err := filepath.WalkDir(source, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(source, path)
		if err != nil {
			return err
		}
		destination := filepath.Join(target, relative)
		if !entry.IsDir() {
			return os.Link(path, destination)
		}
		directories = append(directories, relative)
		if err := os.Mkdir(destination, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	})
	return directories, err
}

// copyTree serves when both sides are not on one mounted file system.
func copyTree(source, target string) error {
	output, err := exec.Command("cp", "-a", "--reflink=auto", "--no-target-directory", source, target).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cp: %w: %s", err, output)
	}
	return nil
}

func copyAttributes(source, target string) error {
	var st unix.Stat_t
	if err := unix.Lstat(source, &st); err != nil {
		return err
	}
	if err := unix.Chown(target, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Chmod(target, st.Mode&0o7777); err != nil {
		return err
	}
	if err := copyXattrs(source, target); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, target, []unix.Timespec{st.Atim, st.Mtim}, 0)
}

func copyXattrs(source, target string) error {
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(source, list)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(list[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(source, name, value)
		if err != nil {
			return err
		}
		if err := unix.Lsetxattr(target, name, value[:n], 0); err != nil {
			return err
		}
	}
	return nil
}
