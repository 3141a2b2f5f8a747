package main

import (
	"sync/atomic"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Answers in the place of the file system below it while there is trouble.
type faultyFS struct {
	fuse.RawFileSystem
	now atomic.Pointer[trouble]
}

// The answer to what changes something, or OK.
func (f *faultyFS) changing() fuse.Status {
	if t := f.now.Load(); t != nil {
		return t.changes
	}
	return fuse.OK
}

// The answer to what only reads, or OK.
func (f *faultyFS) reading() fuse.Status {
	if t := f.now.Load(); t != nil {
		return t.reads
	}
	return fuse.OK
}

func (f *faultyFS) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	if s := f.changing(); !s.Ok() {
		return s
	}
	return f.RawFileSystem.SetAttr(cancel, in, out)
}

func (f *faultyFS) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	if s := f.changing(); !s.Ok() {
		return s
	}
	return f.RawFileSystem.Mknod(cancel, in, name, out)
}

func (f *faultyFS) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	if s := f.changing(); !s.Ok() {
		return s
	}
	return f.RawFileSystem.Mkdir(cancel, in, name, out)
}

func (f *faultyFS) Unlink(cancel <-chan struct{}, header *fuse.InHeader, name string) fuse.Status {
	if s := f.changing(); !s.Ok() {
		return s
	}
	return f.RawFileSystem.Unlink(cancel, header, name)
}

func (f *faultyFS) Rmdir(cancel <-chan struct{}, header *fuse.InHeader, name string) fuse.Status {
	if s := f.changing(); !s.Ok() {
		return s
	}
	return f.RawFileSystem.Rmdir(cancel, header, name)
}

func (f *faultyFS) Rename(cancel <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	if s := f.changing(); !s.Ok() {
		return s
	}
	return f.RawFileSystem.Rename(cancel, in, from, to)
}

func (f *faultyFS) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	if s := f.changing(); !s.Ok() {
		return s
	}
	return f.RawFileSystem.Link(cancel, in, name, out)
}

func (f *faultyFS) Symlink(cancel <-chan struct{}, header *fuse.InHeader, to, name string, out *fuse.EntryOut) fuse.Status {
	if s := f.changing(); !s.Ok() {
		return s
	}
	return f.RawFileSystem.Symlink(cancel, header, to, name, out)
}

func (f *faultyFS) SetXAttr(cancel <-chan struct{}, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	if s := f.changing(); !s.Ok() {
		return s
	}
	return f.RawFileSystem.SetXAttr(cancel, in, name, value)
}

func (f *faultyFS) RemoveXAttr(cancel <-chan struct{}, header *fuse.InHeader, name string) fuse.Status {
	if s := f.changing(); !s.Ok() {
		return s
	}
	return f.RawFileSystem.RemoveXAttr(cancel, header, name)
}

func (f *faultyFS) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	if s := f.changing(); !s.Ok() {
		return s
	}
	return f.RawFileSystem.Create(cancel, in, name, out)
}

func (f *faultyFS) Tmpfile(cancel <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	if s := f.changing(); !s.Ok() {
		return s
	}
	return f.RawFileSystem.Tmpfile(cancel, in, out)
}

func (f *faultyFS) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	if s := f.changing(); !s.Ok() {
		return 0, s
	}
	return f.RawFileSystem.Write(cancel, in, data)
}

func (f *faultyFS) Writev(cancel <-chan struct{}, in *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	if s := f.changing(); !s.Ok() {
		return 0, s
	}
	return f.RawFileSystem.Writev(cancel, in, data)
}

func (f *faultyFS) CopyFileRange(cancel <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	if s := f.changing(); !s.Ok() {
		return 0, s
	}
	return f.RawFileSystem.CopyFileRange(cancel, in)
}

func (f *faultyFS) Fallocate(cancel <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	if s := f.changing(); !s.Ok() {
		return s
	}
	return f.RawFileSystem.Fallocate(cancel, in)
}

func (f *faultyFS) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	s := f.reading()
	if in.Flags&(syscall.O_WRONLY|syscall.O_RDWR|syscall.O_TRUNC) != 0 {
		s = f.changing()
	}
	if !s.Ok() {
		return s
	}
	return f.RawFileSystem.Open(cancel, in, out)
}

func (f *faultyFS) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	if s := f.reading(); !s.Ok() {
		return s
	}
	return f.RawFileSystem.Fsync(cancel, in)
}

func (f *faultyFS) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	if s := f.reading(); !s.Ok() {
		return s
	}
	return f.RawFileSystem.FsyncDir(cancel, in)
}

func (f *faultyFS) Lookup(cancel <-chan struct{}, header *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if s := f.reading(); !s.Ok() {
		return s
	}
	return f.RawFileSystem.Lookup(cancel, header, name, out)
}

func (f *faultyFS) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	if s := f.reading(); !s.Ok() {
		return s
	}
	return f.RawFileSystem.GetAttr(cancel, in, out)
}

func (f *faultyFS) Readlink(cancel <-chan struct{}, header *fuse.InHeader) ([]byte, fuse.Status) {
	if s := f.reading(); !s.Ok() {
		return nil, s
	}
	return f.RawFileSystem.Readlink(cancel, header)
}

func (f *faultyFS) Read(cancel <-chan struct{}, in *fuse.ReadIn, buffer []byte) (fuse.ReadResult, fuse.Status) {
	if s := f.reading(); !s.Ok() {
		return nil, s
	}
	return f.RawFileSystem.Read(cancel, in, buffer)
}

func (f *faultyFS) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if s := f.reading(); !s.Ok() {
		return s
	}
	return f.RawFileSystem.OpenDir(cancel, in, out)
}

func (f *faultyFS) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	if s := f.reading(); !s.Ok() {
		return s
	}
	return f.RawFileSystem.ReadDir(cancel, in, out)
}

func (f *faultyFS) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	if s := f.reading(); !s.Ok() {
		return s
	}
	return f.RawFileSystem.ReadDirPlus(cancel, in, out)
}

func (f *faultyFS) StatFs(cancel <-chan struct{}, header *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	if s := f.reading(); !s.Ok() {
		return s
	}
	return f.RawFileSystem.StatFs(cancel, header, out)
}
