// SPDX-License-Identifier: Apache-2.0

// Package program says which program a command line runs: the script or module for an
// interpreter, the jar or main class for java, else the binary. It reads text only and
// does no I/O. What it reads is hostile input: see package safetext before printing it.
package program

import (
	"path"
	"regexp"
	"strings"
)

// A Program is what a command line runs.
type Program struct {
	// Name is the base name of the binary without its minor version: "python3" of
	// /usr/bin/python3.11.
	Name string
	// Path is the first word of the command line.
	Path string
	// Script is what an interpreter runs: a file's path, "-m module", "-c code" or
	// "-jar file". It is empty for other programs, and for an interpreter that reads its
	// standard input.
	Script string
	// Args are the words after Path and Script, options of the interpreter included.
	Args []string
}

// Shell reports whether the program is a shell.
func (p *Program) Shell() bool { return shells.MatchString(p.Name) }

// Python reports whether the program is an interpreter of Python.
func (p *Program) Python() bool { return pythons.MatchString(p.Name) }

// Same reports whether both run the same program: the same script by the same kind of
// interpreter, else the same binary. Code given on the command line is compared as text.
func (p *Program) Same(q *Program) bool {
	if p.Name != q.Name || p.Script != q.Script {
		return false
	}
	return p.Script != "" || p.Path == q.Path || path.Base(p.Path) == p.Path || path.Base(q.Path) == q.Path
}

// Label is the shortest text that tells the program from others: the base name of the
// script, "-m module", or the name of the binary.
func (p *Program) Label() string {
	switch {
	case p.Script == "" || strings.HasPrefix(p.Script, "-c "):
		return p.Name
	case strings.HasPrefix(p.Script, "-m "):
		return p.Script[len("-m "):]
	case strings.HasPrefix(p.Script, "-jar "):
		return path.Base(p.Script[len("-jar "):])
	}
	return path.Base(p.Script)
}

// An interpreter is a program whose own name says nothing about what it runs.
type interpreter struct {
	name *regexp.Regexp
	// module and code are the options before a module's name and before code.
	module, code, jar string
	// valued are options of the interpreter's own that take the next word.
	valued string
	// verb is a word that stands before the script (deno run FILE).
	verb string
	// class says that the first word that is no option is a class, not a file.
	class bool
}

var (
	pythons = regexp.MustCompile(`^(python|pypy)\d*$`)
	shells  = regexp.MustCompile(`^(sh|bash|dash|ash|ksh|zsh|fish|mksh)$`)
)

// The options are those of the programs' manual pages.
var interpreters = []interpreter{
	{name: pythons, module: "-m", code: "-c", valued: " -W -X --check-hash-based-pycs "},
	{name: regexp.MustCompile(`^(node|nodejs|bun)\d*$`), code: "-e", valued: " -r --require --import --loader -C --conditions "},
	{name: regexp.MustCompile(`^deno$`), verb: "run", valued: " --config -c "},
	{name: shells, code: "-c", valued: " -o +o -O +O --rcfile --init-file "},
	{name: regexp.MustCompile(`^(ruby|jruby)\d*$`), code: "-e", valued: " -r -I -C -E "},
	{name: regexp.MustCompile(`^perl\d*$`), code: "-e", valued: " -I "},
	{name: regexp.MustCompile(`^php\d*$`), code: "-r", valued: " -c -d -z "},
	{name: regexp.MustCompile(`^(lua|luajit|tclsh|wish|expect|guile)\d*$`), code: "-e", valued: " -l "},
	{name: regexp.MustCompile(`^(Rscript|R|octave|julia)$`), code: "-e", valued: " "},
	{name: regexp.MustCompile(`^java$`), jar: "-jar", class: true, valued: " -cp -classpath --class-path -p --module-path --add-modules --add-opens --add-exports "},
}

// minor is the minor part of a version at the end of a binary's name.
var minor = regexp.MustCompile(`(\d)\.\d+(\.\d+)*$`)

// Of returns what cmdline runs. exe is the path of the binary where it is known, and
// comm the task's name; they serve where the command line is empty (a kernel thread, a
// process whose arguments could not be read).
func Of(cmdline []string, exe, comm string) Program {
	if len(cmdline) == 0 || cmdline[0] == "" {
		p := Program{Path: exe}
		if p.Path == "" {
			p.Path = comm
		}
		p.Name = BinaryName(p.Path)
		return p
	}
	p := Program{Path: cmdline[0], Args: cmdline[1:]}
	// A login shell's first word begins with a dash.
	p.Name = BinaryName(strings.TrimPrefix(p.Path, "-"))
	for i := range interpreters {
		in := &interpreters[i]
		if in.name.MatchString(p.Name) {
			p.Script, p.Args = in.script(cmdline[1:])
			break
		}
	}
	return p
}

// BinaryName is the base name of a path without its minor version.
func BinaryName(file string) string {
	// The kernel adds this where the file was removed or replaced.
	file = strings.TrimSuffix(file, " (deleted)")
	return minor.ReplaceAllString(path.Base(file), "$1")
}

// script finds what the interpreter runs in the words after its name, and returns it
// with the words that remain.
func (in *interpreter) script(words []string) (script string, rest []string) {
	for i := 0; i < len(words); i++ {
		word := words[i]
		next := ""
		if i+1 < len(words) {
			next = words[i+1]
		}
		switch {
		case word == "--" && next != "":
			return next, join(words[:i], words[i+2:])
		case next != "" && in.code != "" && in.takesCode(word):
			return "-c " + next, join(words[:i], words[i+2:])
		case next != "" && word != "" && (word == in.module || word == in.jar):
			return word + " " + next, join(words[:i], words[i+2:])
		case strings.Contains(in.valued, " "+word+" "):
			i++
		case strings.HasPrefix(word, "-") || word == "" || word == in.verb:
		default:
			return word, join(words[:i], words[i+1:])
		}
	}
	return "", words
}

// takesCode reports whether word is the option for code, alone or at the end of a group
// of one-letter options (bash -lc).
func (in *interpreter) takesCode(word string) bool {
	return word == in.code || len(in.code) == 2 && len(word) > 2 && len(word) <= 6 &&
		word[0] == '-' && word[1] != '-' && word[len(word)-1] == in.code[1] && !strings.ContainsAny(word, "=./")
}

func join(before, after []string) []string {
	if len(before) == 0 {
		return after
	}
	return append(before[:len(before):len(before)], after...)
}
