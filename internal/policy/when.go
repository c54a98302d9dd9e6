// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"

	"github.com/abot-trace/abot-trace/internal/nearest"
)

// Subject is what an expression knows as process. NaN stands for not known.
type Subject struct {
	PID           int     `expr:"pid"`
	Comm          string  `expr:"comm"`
	Exe           string  `expr:"exe"`
	Cmdline       string  `expr:"cmdline"`
	User          string  `expr:"user"`
	UID           int     `expr:"uid"`
	Unit          string  `expr:"unit"`
	Cgroup        string  `expr:"cgroup"`
	Verdict       string  `expr:"verdict"`
	Threads       int     `expr:"threads"`
	AgeSeconds    float64 `expr:"age_seconds"`    // since its fork
	OrphanSeconds float64 `expr:"orphan_seconds"` // since its orphaning
	RSSBytes      float64 `expr:"rss_bytes"`
	SwapBytes     float64 `expr:"swap_bytes"`
	TreeBytes     float64 `expr:"tree_bytes"` // RSS plus swap, with its descendants
	CPUPercent    float64 `expr:"cpu_percent"`
}

// environment is what an expression is typed against.
type environment struct {
	Process Subject `expr:"process"`
	Host    Host    `expr:"host"`
}

// maxNodes bounds an expression's syntax tree.
const maxNodes = 200

// functions are the built-in functions an expression may call: each looks at its
// arguments once.
var functions = []string{"abs", "ceil", "floor", "int", "len", "lower", "max", "min", "round", "trim", "upper"}

// whenCondition is a compiled expression. Its cost is bounded by its text.
type whenCondition struct {
	source  string
	program *vm.Program
	// uses lists the figures it reads that may be unknown.
	uses []figure
}

// figure is one float64 of the environment.
type figure struct {
	name  string // "host.memory_percent"
	index []int  // of the field in environment, for reflect
}

// compileWhen parses, limits and types an expression.
func compileWhen(source string) (*whenCondition, error) {
	if len(source) > maxPattern {
		return nil, fmt.Errorf("the expression has %d bytes, more than %d", len(source), maxPattern)
	}
	options := []expr.Option{expr.Env(environment{}), expr.AsBool(), expr.MaxNodes(maxNodes), expr.DisableAllBuiltins()}
	for _, name := range functions {
		options = append(options, expr.EnableBuiltin(name))
	}
	// The library's own tree, with every built-in known, tells a forbidden
	// construct from a misspelt name.
	config := conf.CreateNew()
	config.MaxNodes = maxNodes
	tree, err := parser.ParseWithConfig(source, config)
	if err != nil {
		return nil, plain(source, err)
	}
	guard := &guard{}
	ast.Walk(&tree.Node, guard)
	if guard.err != nil {
		return nil, guard.err.Bind(tree.Source)
	}
	program, err := expr.Compile(source, options...)
	if err != nil {
		return nil, plain(source, err)
	}
	return &whenCondition{source, program, figures(guard.members)}, nil
}

// withPercentSign is how people write a threshold who come from the other settings.
var withPercentSign = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`[0-9]\s*%\s*([^\s\w(.]|$|and\b|or\b)`)
})

// plain makes the library's errors name the limit where they only say that there is
// one, and the likely cause where they cannot know it.
func plain(source string, err error) error {
	if strings.Contains(err.Error(), "exceeds maximum allowed nodes") {
		return fmt.Errorf("the expression is too complex: more than %d parts", maxNodes)
	}
	var at *file.Error
	if errors.As(err, &at) && withPercentSign().MatchString(source) {
		at.Message += "; percentages are plain numbers here: 85, not 85%"
	}
	return err
}

// whenPosition returns where in the expression err points, or zeros.
func whenPosition(err error) (line, column int) {
	var at *file.Error
	if errors.As(err, &at) && at.Line > 0 {
		return at.Line, at.Column + 1
	}
	return 0, 0
}

// Message returns err without the source excerpt that the expression library adds.
func Message(err error) string {
	var at *file.Error
	if errors.As(err, &at) {
		return at.Message
	}
	return err.Error()
}

// guard refuses whatever could make the cost of an expression exceed its text: loops
// over arrays, ranges, variables that double a string, patterns taken from a process.
type guard struct {
	err     *file.Error
	members [][2]string
}

// Visit implements ast.Visitor. The walk comes to the parts before the whole: what is
// wrong as a whole says more than what is wrong within.
func (g *guard) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		if _, ok := fieldByTag(reflect.TypeFor[environment](), n.Value); !ok {
			g.refuse(n, "unknown name %q: there are process and host", n.Value)
		}
	case *ast.NilNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode,
		*ast.StringNode, *ast.ConstantNode, *ast.UnaryNode, *ast.ArrayNode, *ast.ConditionalNode:
	case *ast.BinaryNode:
		g.binary(n)
	case *ast.MemberNode:
		g.member(n)
	case *ast.BuiltinNode:
		if !slices.Contains(functions, n.Name) {
			g.err = nil
			g.refuse(n, "the function %s is not allowed; there are %s", n.Name, strings.Join(functions, ", "))
		}
	case *ast.CallNode:
		g.err = nil
		g.refuse(n, "no such function; there are %s", strings.Join(functions, ", "))
	default:
		g.err = nil
		g.refuse(*node, "this construct is not allowed in a rule")
	}
}

func (g *guard) binary(n *ast.BinaryNode) {
	switch n.Operator {
	case "..":
		g.refuse(n, "ranges are not allowed in a rule")
	case "matches":
		pattern, ok := n.Right.(*ast.StringNode)
		if !ok {
			g.refuse(n, "the pattern after matches must be a literal string")
		} else if _, err := compileRE2(pattern.Value); err != nil {
			g.refuse(n.Right, "%v", err)
		}
	}
}

func (g *guard) member(n *ast.MemberNode) {
	base, ok := n.Node.(*ast.IdentifierNode)
	if !ok {
		g.refuse(n, "fields can be taken of process and host only")
		return
	}
	record, ok := fieldByTag(reflect.TypeFor[environment](), base.Value)
	if !ok {
		return // refused as an identifier
	}
	field, ok := n.Property.(*ast.StringNode)
	if !ok {
		g.refuse(n, "a field must be named, as in %s.name", base.Value)
		return
	}
	if _, ok := fieldByTag(record.Type, field.Value); !ok {
		g.refuse(n.Property, "%s has no %q%s", base.Value, field.Value, otherFields(field.Value, record.Type))
		return
	}
	g.members = append(g.members, [2]string{base.Value, field.Value})
}

// otherFields says which field was meant, or which there are.
func otherFields(name string, t reflect.Type) string {
	var names []string
	for f := range t.Fields() {
		names = append(names, f.Tag.Get("expr"))
	}
	if near := nearest.Hint(name, names...); near != "" {
		return near
	}
	return ": there are " + nearest.List(names)
}

// refuse keeps the first reason.
func (g *guard) refuse(n ast.Node, format string, args ...any) {
	if g.err != nil {
		return
	}
	g.err = &file.Error{Location: n.Location(), Message: fmt.Sprintf(format, args...)}
}

// figures returns those members that are numbers which may be NaN.
func figures(members [][2]string) (used []figure) {
	root := reflect.TypeFor[environment]()
	for _, m := range members {
		base, ok := fieldByTag(root, m[0])
		if !ok {
			continue
		}
		f, ok := fieldByTag(base.Type, m[1])
		if ok && f.Type.Kind() == reflect.Float64 {
			used = append(used, figure{m[0] + "." + m[1], append(slices.Clone(base.Index), f.Index...)})
		}
	}
	return used
}

func fieldByTag(t reflect.Type, tag string) (reflect.StructField, bool) {
	for f := range t.Fields() {
		if f.Tag.Get("expr") == tag {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

func (w *whenCondition) holds(c *candidate) (bool, uint64) {
	ok, _ := w.evaluate(c)
	return ok, 0
}

// evaluate returns whether the expression holds, and why it could not be told.
func (w *whenCondition) evaluate(c *candidate) (bool, error) {
	env := c.environment()
	v := reflect.ValueOf(env).Elem()
	for _, f := range w.uses {
		if math.IsNaN(v.FieldByIndex(f.index).Float()) {
			return false, fmt.Errorf("%s is not known", f.name)
		}
	}
	result, err := c.engine.machine.Run(w.program, env)
	if err != nil {
		return false, errors.New(Message(err))
	}
	return result == true, nil
}

func (w *whenCondition) describe(c *candidate) string {
	ok, err := w.evaluate(c)
	switch {
	case err != nil:
		return fmt.Sprintf("the expression %s cannot be told: %v", w.source, err)
	case ok:
		return fmt.Sprintf("the expression %s holds", w.source)
	default:
		return fmt.Sprintf("the expression %s does not hold", w.source)
	}
}
