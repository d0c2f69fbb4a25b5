package watch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	sigsjson "sigs.k8s.io/json"
)

// A document is one object of a manifest file, with the places of its fields.
type document struct {
	// place is the file name; line where the object begins.
	place string
	line  int
	root  *yaml.Node

	apiVersion, kind, namespace, name string
}

// A manifestError is an error at a line of a file.
type manifestError struct {
	place string
	line  int
	// object is "Service shop/web", empty if unknown; field a path, empty if none.
	object, field string
	text          string
}

func (e *manifestError) Error() string {
	parts := []string{fmt.Sprintf("%s:%d", e.place, e.line)}
	if e.object != "" {
		parts = append(parts, e.object)
	}
	if e.field != "" {
		parts = append(parts, e.field)
	}
	return strings.Join(append(parts, e.text), ": ")
}

// errorf makes an error about a field of the document.
func (d *document) errorf(field, format string, args ...any) error {
	return &manifestError{
		place: d.place, line: d.lineOf(field), object: d.object(), field: field, text: fmt.Sprintf(format, args...),
	}
}

// object names the object in errors.
func (d *document) object() string {
	switch {
	case d.kind == "":
		return ""
	case d.name == "":
		return d.kind
	case d.namespace == "":
		return d.kind + " " + d.name
	}
	return d.kind + " " + d.namespace + "/" + d.name
}

// parseDocuments splits a file into its objects; the items of a List count singly.
func parseDocuments(place string, content []byte) ([]*document, error) {
	var documents []*document
	var broken error
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	for {
		var node yaml.Node
		err := decoder.Decode(&node)
		if errors.Is(err, io.EOF) {
			return documents, broken
		}
		if err != nil { // what follows a syntax error cannot be made out
			return documents, errors.Join(broken, syntaxError(place, err))
		}
		if len(node.Content) == 0 || node.Content[0].ShortTag() == "!!null" {
			continue
		}
		found, err := openDocument(place, node.Content[0])
		documents, broken = append(documents, found...), errors.Join(broken, err)
	}
}

var yamlLine = regexp.MustCompile(`(?s)^yaml: (?:unmarshal errors:\s+)?(?:line (\d+): )?(.*)$`)

// syntaxError turns "yaml: line 3: ..." into an error with that line.
func syntaxError(place string, err error) error {
	parts := yamlLine.FindStringSubmatch(err.Error())
	if parts == nil {
		return &manifestError{place: place, line: 1, text: err.Error()}
	}
	line, _ := strconv.Atoi(parts[1])
	return &manifestError{place: place, line: max(line, 1), text: strings.ReplaceAll(parts[2], "\n ", ";")}
}

// openDocument reads the head of an object and opens Lists.
func openDocument(place string, root *yaml.Node) ([]*document, error) {
	normalize(root)
	var whole any
	if err := root.Decode(&whole); err != nil { // duplicate keys, aliases without end
		return nil, syntaxError(place, err)
	}
	d := &document{place: place, line: root.Line, root: root}
	if root.Kind != yaml.MappingNode {
		return nil, d.errorf("", "must be an object with apiVersion and kind, is %s", describe(root))
	}
	d.apiVersion, d.kind = d.text("apiVersion"), d.text("kind")
	d.name, d.namespace = d.text("metadata.name"), d.text("metadata.namespace")
	switch {
	case d.kind == "":
		return nil, d.errorf("kind", "is missing")
	case d.apiVersion == "":
		return nil, d.errorf("apiVersion", "is missing")
	case !strings.HasSuffix(d.kind, "List"):
		return []*document{d}, nil
	}
	return openList(place, d)
}

func openList(place string, d *document) ([]*document, error) {
	var documents []*document
	var broken error
	items := d.find("items")
	if items == nil {
		return nil, nil
	}
	if items.Kind != yaml.SequenceNode {
		return nil, d.errorf("items", "must be a list, is %s", describe(items))
	}
	for _, item := range items.Content {
		found, err := openDocument(place, resolve(item))
		documents, broken = append(documents, found...), errors.Join(broken, err)
	}
	return documents, broken
}

// normalize makes strings of what JSON knows only as such: dates, and keys that look
// like numbers or booleans.
func normalize(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!timestamp" {
		n.Tag = "!!str"
	}
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && child.Kind == yaml.ScalarNode && child.ShortTag() != "!!merge" {
			child.Tag = "!!str"
		}
		normalize(child)
	}
}

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.SequenceNode:
		return "a list"
	case yaml.MappingNode:
		return "an object"
	}
	return strconv.Quote(n.Value)
}

func resolve(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// A member is a key of a mapping with its value.
type member struct{ key, value *yaml.Node }

// members gives the fields of a mapping with merge keys (<<) carried out.
func members(n *yaml.Node) []member {
	var own, merged []member
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, child := n.Content[i], resolve(n.Content[i+1])
		if key.ShortTag() != "!!merge" {
			own = append(own, member{key, child})
			continue
		}
		if child.Kind == yaml.MappingNode {
			merged = append(merged, members(child)...)
		}
		for _, part := range child.Content {
			if child.Kind == yaml.SequenceNode {
				merged = append(merged, members(resolve(part))...)
			}
		}
	}
	seen := make(map[string]bool)
	var all []member
	for _, f := range append(own, merged...) {
		if !seen[f.key.Value] {
			seen[f.key.Value] = true
			all = append(all, f)
		}
	}
	return all
}

// find gives the node of a path such as spec.ports[0].port; nil if there is none.
func (d *document) find(path string) *yaml.Node {
	node, rest := d.nearest(path)
	if rest != "" {
		return nil
	}
	return node
}

// text gives the scalar at a path, "" if there is none.
func (d *document) text(path string) string {
	if n := d.find(path); n != nil && n.Kind == yaml.ScalarNode && n.ShortTag() != "!!null" {
		return n.Value
	}
	return ""
}

// lineOf gives the line of a path, or of the nearest thing above it that exists.
func (d *document) lineOf(path string) int {
	node, _ := d.nearest(path)
	return node.Line
}

// nearest follows a path as far as it leads; rest is what is left of it.
func (d *document) nearest(path string) (node *yaml.Node, rest string) {
	node = d.root
	for path != "" {
		child, after := step(node, path)
		if child == nil {
			return node, path
		}
		node, path = child, after
	}
	return node, ""
}

// step takes the first part off a path.
func step(n *yaml.Node, path string) (child *yaml.Node, rest string) {
	if index, after, found := strings.Cut(strings.TrimPrefix(path, "["), "]"); found && path[0] == '[' {
		i, err := strconv.Atoi(index)
		if err == nil && n.Kind == yaml.SequenceNode && i >= 0 && i < len(n.Content) {
			return resolve(n.Content[i]), strings.TrimPrefix(after, ".")
		}
	}
	if n.Kind != yaml.MappingNode {
		return nil, path
	}
	for _, f := range members(n) { // keys may contain dots: try each as a whole
		after, found := strings.CutPrefix(path, f.key.Value)
		if !found {
			after, found = strings.CutPrefix(path, "["+f.key.Value+"]")
		}
		if found && (after == "" || after[0] == '.' || after[0] == '[') {
			at := *f.value
			if at.Line != f.key.Line && at.Kind != yaml.ScalarNode {
				at.Line = f.key.Line // the line of "ports:", not of its first item
			}
			return &at, strings.TrimPrefix(after, ".")
		}
	}
	return nil, path
}

// decode reads the object strictly into a struct of the API: unknown fields and wrong
// types are errors, as with "kubectl apply --validate=strict".
func (d *document) decode(into any) error {
	var out jsonWriter
	out.value(d.root, "")
	strict, err := sigsjson.UnmarshalStrict(out.buf.Bytes(), into)
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong):
		path, node := out.at(wrong.Offset)
		return &manifestError{
			place: d.place, line: node.Line, object: d.object(), field: path,
			text: fmt.Sprintf("%s is not %s", describe(node), typeName(wrong.Type.Kind().String())),
		}
	case err != nil:
		return d.errorf("", "%v", err)
	}
	var broken error
	for _, e := range strict {
		path := strings.Trim(strings.TrimPrefix(strings.TrimPrefix(e.Error(), "unknown field "), "duplicate field "), `"`)
		broken = errors.Join(broken, d.errorf(path, "unknown field; correct its name or remove it"))
	}
	return broken
}

func typeName(kind string) string {
	switch {
	case strings.HasPrefix(kind, "int"), strings.HasPrefix(kind, "uint"):
		return "a whole number of this field's size"
	case kind == "string":
		return "a string (put it in quotes)"
	case kind == "bool":
		return "true or false"
	case kind == "slice":
		return "a list"
	}
	return "an object"
}

// A jsonWriter writes a node as JSON and remembers where each part of it is.
type jsonWriter struct {
	buf   bytes.Buffer
	marks []mark
}

type mark struct {
	start, end int64
	path       string
	node       *yaml.Node
}

func (w *jsonWriter) value(n *yaml.Node, path string) {
	n = resolve(n)
	i := len(w.marks)
	w.marks = append(w.marks, mark{start: int64(w.buf.Len()), path: path, node: n})
	switch n.Kind {
	case yaml.MappingNode:
		w.object(n, path)
	case yaml.SequenceNode:
		w.list(n, path)
	default:
		var scalar any = n.Value
		if err := n.Decode(&scalar); err != nil {
			scalar = n.Value
		}
		w.raw(scalar)
	}
	w.marks[i].end = int64(w.buf.Len())
}

func (w *jsonWriter) object(n *yaml.Node, path string) {
	open := "{"
	for _, f := range members(n) {
		w.buf.WriteString(open)
		w.raw(f.key.Value)
		w.buf.WriteByte(':')
		w.value(f.value, strings.TrimPrefix(path+"."+f.key.Value, "."))
		open = ","
	}
	if open == "{" {
		w.buf.WriteString(open)
	}
	w.buf.WriteByte('}')
}

func (w *jsonWriter) list(n *yaml.Node, path string) {
	w.buf.WriteByte('[')
	for i, item := range n.Content {
		if i > 0 {
			w.buf.WriteByte(',')
		}
		w.value(item, fmt.Sprintf("%s[%d]", path, i))
	}
	w.buf.WriteByte(']')
}

// raw writes a scalar; one that JSON does not know (an infinity) becomes a string.
func (w *jsonWriter) raw(scalar any) {
	text, err := json.Marshal(scalar)
	if err != nil {
		text = strconv.AppendQuote(nil, fmt.Sprint(scalar))
	}
	w.buf.Write(text)
}

// at gives the innermost part that has been begun and not passed at an offset.
func (w *jsonWriter) at(offset int64) (string, *yaml.Node) {
	best := w.marks[0]
	for _, m := range w.marks {
		if m.start < offset && offset <= m.end {
			best = m
		}
	}
	return best.path, best.node
}
