// SPDX-License-Identifier: Apache-2.0

// Package recipes holds what README, manual pages, documents and help tell people to type,
// and runs it, literally, each block in a container made for it.
package recipes

import (
	"fmt"
	"strings"
)

// A Block is one example of a document.
type Block struct {
	File string
	Line int // of its first line, from 1
	Lang string
	Text string
}

// String names the block in messages.
func (b Block) String() string { return fmt.Sprintf("%s:%d", b.File, b.Line) }

// Commands returns the command lines of the block: of a console session those behind "$ ",
// of others each line that is not a comment. Lines that end in a backslash are joined, and
// so is what belongs to a here-document or to an open bracket or keyword of the shell.
func (b Block) Commands() []string {
	var commands []string
	open := ""
	for line := range strings.Lines(b.Text) {
		line = strings.TrimRight(line, "\n")
		if open == "" && b.Lang == "console" {
			var ok bool
			if line, ok = strings.CutPrefix(line, "$ "); !ok {
				continue
			}
		}
		if open == "" && (strings.TrimSpace(line) == "" || strings.HasPrefix(strings.TrimSpace(line), "#")) {
			continue
		}
		open += line
		if rest, joined := strings.CutSuffix(open, `\`); joined {
			open = rest
			continue
		}
		commands = append(commands, strings.TrimSpace(open))
		open = ""
	}
	return commands
}

// MarkdownBlocks returns the fenced and the indented blocks of a markdown text, outside of
// lists. A fence without a language has the language "".
func MarkdownBlocks(file, text string) []Block {
	var blocks []Block
	var open *Block
	fence := ""
	previous := ""
	for i, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(line)
		switch {
		case fence != "":
			if trimmed == fence {
				blocks, open, fence = append(blocks, *open), nil, ""
			} else {
				open.Text += line + "\n"
			}
		case strings.HasPrefix(line, "```"):
			fence = "```"
			open = &Block{File: file, Line: i + 2, Lang: strings.TrimPrefix(trimmed, "```")}
		case open != nil && (strings.HasPrefix(line, "    ") || trimmed == ""):
			open.Text += strings.TrimPrefix(line, "    ") + "\n"
		case open != nil:
			blocks, open = append(blocks, *open), nil
		case strings.HasPrefix(line, "    ") && previous == "":
			open = &Block{File: file, Line: i + 1, Lang: "indented", Text: line[4:] + "\n"}
		}
		previous = trimmed
	}
	if open != nil {
		blocks = append(blocks, *open)
	}
	return blocks
}

// HelpBlock returns the examples of a command's help: what stands, indented, behind the
// line "Examples:".
func HelpBlock(command, help string) (Block, bool) {
	_, examples, found := strings.Cut(help, "Examples:\n")
	if !found {
		return Block{}, false
	}
	b := Block{File: "abot-trace " + command + " --help", Line: 1 + strings.Count(help[:len(help)-len(examples)], "\n"), Lang: "sh"}
	for line := range strings.Lines(examples) {
		switch {
		case strings.TrimSpace(line) == "":
			if b.Text != "" {
				return b, true
			}
		case !strings.HasPrefix(line, " "):
			return b, b.Text != ""
		default:
			b.Text += strings.TrimSpace(line) + "\n"
		}
	}
	return b, b.Text != ""
}
