// SPDX-License-Identifier: Apache-2.0

package recipes

import (
	"slices"
	"testing"
)

func TestMarkdownBlocks(t *testing.T) {
	const text = "# Title\n\n    $ one\n    output\n\n    $ two \\\n      three\nText\n    no block\n\n```sh\na # said\n\n# b\nc\n```\n"
	blocks := MarkdownBlocks("x.md", text)
	if len(blocks) != 2 || blocks[0].String() != "x.md:3" || blocks[1].Lang != "sh" || blocks[1].Line != 12 {
		t.Fatalf("got %+v", blocks)
	}
	blocks[0].Lang = "console"
	if got := blocks[0].Commands(); !slices.Equal(got, []string{"one", "two   three"}) {
		t.Errorf("console: got %q", got)
	}
	if got := blocks[1].Commands(); !slices.Equal(got, []string{"a # said", "c"}) {
		t.Errorf("sh: got %q", got)
	}
}

func TestHelpBlock(t *testing.T) {
	b, ok := HelpBlock("x", "NAME:\n   x\n\nExamples:\n\n      x --y\n      x -z   # said\n\nOPTIONS:\n   --y\n")
	if want := []string{"x --y", "x -z   # said"}; !ok || !slices.Equal(b.Commands(), want) {
		t.Errorf("got %q, %v, want %q", b.Commands(), ok, want)
	}
	if _, ok := HelpBlock("x", "NAME:\n   x\n"); ok {
		t.Error("found examples where there are none")
	}
}
