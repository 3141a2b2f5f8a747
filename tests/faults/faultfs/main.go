// A file system that answers as a disk in trouble does, for as long as it is told to. It is another
// directory otherwise: what is read and written there goes to that one.
//
//	faultfs DIRECTORY MOUNTPOINT
//
// Standard input says what is wrong from now on, a word a line, and each is confirmed by the same line on
// standard output: `none`; `read-only`, where nothing can be changed (EROFS); `error`, where nothing can be
// done at all (EIO). What the kernel has in its page cache can be read all the same, as with a real disk.
// At the end of standard input it unmounts and ends.
package main

import (
	"bufio"
	"fmt"
	"log"
	"os"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// What changes and what only reads answers with, in each kind of trouble.
type trouble struct{ changes, reads fuse.Status }

var troubles = map[string]trouble{
	"none":      {},
	"read-only": {changes: fuse.EROFS},
	"error":     {changes: fuse.EIO, reads: fuse.EIO},
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("faultfs: ")
	if len(os.Args) != 3 {
		log.Fatal("usage: faultfs DIRECTORY MOUNTPOINT")
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func run(directory, mountpoint string) error {
	// A file's mode is what its writer asked for.
	syscall.Umask(0)
	root, err := fs.NewLoopbackRoot(directory)
	if err != nil {
		return err
	}
	// Without timeouts nothing of names and attributes is cached: every question comes here.
	faulty := &faultyFS{RawFileSystem: fs.NewNodeFS(root, &fs.Options{})}
	server, err := fuse.NewServer(faulty, mountpoint, &fuse.MountOptions{
		AllowOther:        true,
		Options:           []string{"default_permissions"},
		DirectMountStrict: true,
		FsName:            directory,
		Name:              "faultfs",
		// With it the kernel would read and write the other directory's files without asking.
		DisabledCapabilities: fuse.CAP_PASSTHROUGH,
	})
	if err != nil {
		return err
	}
	go server.Serve()
	if err := server.WaitMount(); err != nil {
		return err
	}
	for words := bufio.NewScanner(os.Stdin); words.Scan(); {
		wanted, known := troubles[words.Text()]
		if !known {
			log.Printf("unknown: %q", words.Text())
			continue
		}
		faulty.now.Store(&wanted)
		fmt.Println(words.Text())
	}
	if err := server.Unmount(); err != nil {
		// Somebody has it open still: it goes when they have ended.
		return syscall.Unmount(mountpoint, syscall.MNT_DETACH)
	}
	return nil
}
