package main

// A recipe says what an image holds.
type recipe struct {
	name string
	// programs are built from cmd/ and lie in the image's root; the first is the entry point.
	programs []string
	user     string
	// capabilities are the file capabilities of the entry point, by number (linux/capability.h).
	capabilities []uint
	title        string
}

const (
	netBindService = 10
	// nobody is who a program runs as that needs no rights; the number, so that kubelet can tell
	// that it is not root.
	nobody = "65532:65532"
	// root is who mooring-proxy runs as: the kernel gives the network's parameters to user 0
	// alone, and capabilities are what Kubernetes takes away or leaves.
	root = "0:0"
)

var recipes = []recipe{
	{
		name: "mooring-dns", programs: []string{"mooring-dns"}, user: nobody, capabilities: []uint{netBindService},
		title: "CoreDNS with the plugin mooring",
	},
	{
		name: "mooring-proxy", programs: []string{"mooring-proxy", "mooringctl"}, user: root,
		title: "Serves the addresses of Kubernetes Services with IPVS",
	},
}

// reference names the image: of no registry, since none is ours.
func (r recipe) reference(version string) string { return "localhost/" + r.name + ":" + version }
