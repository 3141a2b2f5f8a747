package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const patience = 20 * time.Second

// kubelet is the part of one that device plugins see: it empties its directory, listens there, and calls a plugin
// back over the endpoint that it registers.
type kubelet struct {
	pluginapi.UnimplementedRegistrationServer
	dir        string
	server     *grpc.Server
	registered chan *pluginapi.RegisterRequest
}

func startKubelet(t *testing.T, dir string) *kubelet {
	t.Helper()
	sockets, err := filepath.Glob(filepath.Join(dir, "*.sock"))
	if err != nil {
		t.Fatal(err)
	}
	for _, socket := range sockets {
		if err := os.Remove(socket); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := net.Listen("unix", filepath.Join(dir, "kubelet.sock"))
	if err != nil {
		t.Fatal(err)
	}
	k := &kubelet{dir: dir, server: grpc.NewServer(), registered: make(chan *pluginapi.RegisterRequest, 10)}
	pluginapi.RegisterRegistrationServer(k.server, k)
	go k.server.Serve(listener)
	t.Cleanup(k.server.Stop)
	return k
}

func (k *kubelet) Register(_ context.Context, request *pluginapi.RegisterRequest) (*pluginapi.Empty, error) {
	k.registered <- request
	return &pluginapi.Empty{}, nil
}

// plugin waits for a registration and connects to what was registered.
func (k *kubelet) plugin(t *testing.T) (*pluginapi.RegisterRequest, pluginapi.DevicePluginClient) {
	t.Helper()
	select {
	case request := <-k.registered:
		target := "unix://" + filepath.Join(k.dir, request.Endpoint)
		connection, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { connection.Close() })
		return request, pluginapi.NewDevicePluginClient(connection)
	case <-time.After(patience):
		t.Fatal("the plugin did not register")
		return nil, nil
	}
}

func listed(t *testing.T, plugin pluginapi.DevicePluginClient) (
	[]*pluginapi.Device, grpc.ServerStreamingClient[pluginapi.ListAndWatchResponse],
) {
	t.Helper()
	stream, err := plugin.ListAndWatch(t.Context(), &pluginapi.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	response, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return response.Devices, stream
}

// startPlugin runs the plugin for two devices until the test ends.
func startPlugin(t *testing.T, dir string) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- keepRegistered(ctx, dir, "example.com/thing", newDevices(2)) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the plugin ended with %v", err)
			}
		case <-time.After(patience):
			t.Error("the plugin did not end")
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "example*")); len(left) > 0 {
			t.Errorf("the plugin left %v", left)
		}
	})
}

// Not t.TempDir(), whose names are too long for a socket's path.
func socketDirectory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "plugin")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestItRegistersItsResourceAndListsHealthyDevices(t *testing.T) {
	dir := socketDirectory(t)
	kubelet := startKubelet(t, dir)
	startPlugin(t, dir)
	request, plugin := kubelet.plugin(t)
	if request.ResourceName != "example.com/thing" || request.Version != "v1beta1" {
		t.Errorf("registered %v", request)
	}
	if _, err := plugin.GetDevicePluginOptions(t.Context(), &pluginapi.Empty{}); err != nil {
		t.Errorf("options: %v", err)
	}
	devices, _ := listed(t, plugin)
	if len(devices) != 2 || devices[0].ID == devices[1].ID {
		t.Errorf("devices %v", devices)
	}
	for _, device := range devices {
		if device.Health != "Healthy" {
			t.Errorf("%v", device)
		}
	}
}

func TestItWaitsForAKubeletThatComesLater(t *testing.T) {
	dir := filepath.Join(socketDirectory(t), "made-by-whoever-is-first")
	startPlugin(t, dir)
	deadline := time.Now().Add(patience)
	for {
		if sockets, _ := filepath.Glob(filepath.Join(dir, "*.sock")); len(sockets) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the plugin serves nothing")
		}
		time.Sleep(10 * time.Millisecond)
	}
	_, plugin := startKubelet(t, dir).plugin(t)
	if devices, _ := listed(t, plugin); len(devices) != 2 {
		t.Errorf("devices %v", devices)
	}
}

func TestItRegistersAnewAfterTheKubeletRestarted(t *testing.T) {
	dir := socketDirectory(t)
	first := startKubelet(t, dir)
	startPlugin(t, dir)
	_, plugin := first.plugin(t)
	_, stream := listed(t, plugin)
	first.server.Stop()
	_, plugin = startKubelet(t, dir).plugin(t)
	if devices, _ := listed(t, plugin); len(devices) != 2 {
		t.Errorf("devices %v", devices)
	}
	if _, err := stream.Recv(); err == nil {
		t.Error("what the first kubelet was served over goes on")
	}
}

func TestItKeepsTheStreamOfDevicesOpen(t *testing.T) {
	dir := socketDirectory(t)
	kubelet := startKubelet(t, dir)
	startPlugin(t, dir)
	_, plugin := kubelet.plugin(t)
	_, stream := listed(t, plugin)
	ended := make(chan error, 1)
	go func() {
		_, err := stream.Recv()
		ended <- err
	}()
	select {
	case err := <-ended:
		t.Errorf("the stream ended: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
}

func TestItAllocatesToEachContainerWhatTheKubeletChose(t *testing.T) {
	dir := socketDirectory(t)
	kubelet := startKubelet(t, dir)
	startPlugin(t, dir)
	_, plugin := kubelet.plugin(t)
	devices, _ := listed(t, plugin)
	request := func(ids ...string) *pluginapi.ContainerAllocateRequest {
		return &pluginapi.ContainerAllocateRequest{DevicesIds: ids}
	}
	response, err := plugin.Allocate(t.Context(), &pluginapi.AllocateRequest{
		ContainerRequests: []*pluginapi.ContainerAllocateRequest{request(devices[0].ID), request(devices[1].ID)},
	})
	if err != nil || len(response.ContainerResponses) != 2 {
		t.Errorf("%v, %v", response, err)
	}
	_, err = plugin.Allocate(t.Context(), &pluginapi.AllocateRequest{
		ContainerRequests: []*pluginapi.ContainerAllocateRequest{request("device-of-somebody-else")},
	})
	if err == nil {
		t.Error("it allocated a device that does not exist")
	}
}
