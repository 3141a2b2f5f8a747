package gitops

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	luajson "layeh.com/gopher-json"
)

// runLua runs a script as Argo CD runs those of argocd-cm (its util/lua/lua.go): the object is the global `obj`; there
// are the libraries base, package and table and two functions of os, but neither string nor math; and a second's time.
// It returns what the script returns, as JSON. Argo CD's own package is not used for what it would bring: ADR 0155.
func runLua(t *testing.T, script string, obj *unstructured.Unstructured) []byte {
	t.Helper()
	l := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer l.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage},
		{lua.BaseLibName, lua.OpenBase},
		{lua.TabLibName, lua.OpenTable},
		{lua.OsLibName, openSafeOs},
	} {
		call := lua.P{Fn: l.NewFunction(library.open), Protect: true}
		if err := l.CallByParam(call, lua.LString(library.name)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	l.SetContext(ctx)
	data, err := obj.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	value, err := luajson.Decode(l, data)
	if err != nil {
		t.Fatal(err)
	}
	l.SetGlobal("obj", value)
	if err := l.DoString(script); err != nil {
		t.Fatal(err)
	}
	if kind := l.Get(-1).Type(); kind != lua.LTTable {
		t.Fatalf("the script returns a %s, not a table", kind)
	}
	result, err := luajson.Encode(l.Get(-1))
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func openSafeOs(l *lua.LState) int {
	l.Push(l.RegisterModule(lua.OsLibName, map[string]lua.LGFunction{
		"time": func(l *lua.LState) int { l.Push(lua.LNumber(time.Now().Unix())); return 1 },
		"date": func(l *lua.LState) int { l.Push(lua.LString(time.Now().Format(time.RFC3339))); return 1 },
	}))
	return 1
}

// withEmptyMaps undoes what Lua does to an empty map, which it cannot tell from an empty list: Argo CD does, too.
func withEmptyMaps(now, before any) any {
	switch now := now.(type) {
	case map[string]any:
		before, _ := before.(map[string]any)
		for key := range now {
			now[key] = withEmptyMaps(now[key], before[key])
		}
	case []any:
		if was, ok := before.(map[string]any); ok && len(now) == 0 {
			return was
		}
		before, _ := before.([]any)
		for i := range min(len(now), len(before)) {
			now[i] = withEmptyMaps(now[i], before[i])
		}
	}
	return now
}

// plain is an object as JSON has it: all numbers are float64.
func plain(t *testing.T, data []byte) map[string]any {
	t.Helper()
	var value map[string]any
	if err := json.Unmarshal(data, &value); err != nil {
		t.Fatal(err)
	}
	return value
}
