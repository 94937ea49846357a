package batchio

import (
	"bytes"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// unread are elements whose content is no text for people.
//
//exhaustive:ignore
var unread = map[atom.Atom]bool{
	atom.Script: true, atom.Style: true, atom.Noscript: true, atom.Template: true, atom.Svg: true, atom.Math: true,
	atom.Head: true, atom.Iframe: true, atom.Object: true, atom.Select: true, atom.Textarea: true, atom.Title: true,
}

// Where an element begins or ends, so does a line; around paragraphs there is a blank one.
var (
	//exhaustive:ignore
	newLine = map[atom.Atom]bool{
		atom.Br: true, atom.Div: true, atom.Li: true, atom.Tr: true, atom.Dt: true, atom.Dd: true, atom.Option: true, atom.Figcaption: true,
		atom.Hr: true, atom.Address: true, atom.Caption: true,
	}
	//exhaustive:ignore
	newParagraph = map[atom.Atom]bool{
		atom.P: true, atom.H1: true, atom.H2: true, atom.H3: true, atom.H4: true, atom.H5: true, atom.H6: true, atom.Ul: true, atom.Ol: true,
		atom.Dl: true, atom.Table: true, atom.Blockquote: true, atom.Pre: true, atom.Section: true, atom.Article: true, atom.Header: true,
		atom.Footer: true, atom.Main: true, atom.Nav: true, atom.Aside: true, atom.Form: true, atom.Figure: true,
	}
)

// textOfHTML is what a page says: its texts, with their paragraphs, in the order in which they stand.
func textOfHTML(page []byte) string {
	var out pageText
	// Of what is no HTML the tokens are text; the only error is that of the reader, at its end.
	for tokens := html.NewTokenizer(bytes.NewReader(page)); ; {
		switch tokens.Next() {
		case html.ErrorToken:
			return strings.TrimSpace(out.text.String())
		case html.TextToken:
			out.add(string(tokens.Text()))
		case html.StartTagToken:
			name, _ := tokens.TagName()
			out.enter(atom.Lookup(name))
		case html.SelfClosingTagToken:
			name, _ := tokens.TagName()
			out.divide(atom.Lookup(name))
		case html.EndTagToken:
			name, _ := tokens.TagName()
			out.leave(atom.Lookup(name))
		case html.CommentToken, html.DoctypeToken:
		}
	}
}

// pageText gathers the text of a page.
type pageText struct {
	text strings.Builder
	// gap is what stands between the text so far and the next: nothing, a space, or one or two ends of lines.
	gap string
	// inside is the element that is left out, and within how many of its kind.
	inside atom.Atom
	within int
	pre    int
}

func (p *pageText) enter(element atom.Atom) {
	if element == atom.Body && p.inside == atom.Head { // which was never closed
		p.within = 0
	}
	switch {
	case p.within > 0:
		if element == p.inside {
			p.within++
		}
		return
	case unread[element]:
		p.inside, p.within = element, 1
		return
	case element == atom.Pre:
		p.pre++
	}
	p.divide(element)
	switch element {
	case atom.Li:
		p.add("- ")
	case atom.Td, atom.Th:
		p.widen(" ")
	default:
	}
}

func (p *pageText) leave(element atom.Atom) {
	if p.within > 0 {
		if element == p.inside {
			p.within--
		}
		return
	}
	if element == atom.Pre {
		p.pre = max(0, p.pre-1)
	}
	p.divide(element)
}

func (p *pageText) divide(element atom.Atom) {
	switch {
	case newParagraph[element]:
		p.widen("\n\n")
	case newLine[element]:
		p.widen("\n")
	}
}

// widen makes the gap at least as wide.
func (p *pageText) widen(gap string) {
	if len(gap) > len(p.gap) || p.gap == " " {
		p.gap = gap
	}
}

// add adds text, its white space drawn together as browsers do, but within pre.
func (p *pageText) add(text string) {
	if p.within > 0 {
		return
	}
	if p.pre > 0 {
		p.text.WriteString(p.gap)
		p.gap = ""
		p.text.WriteString(strings.ReplaceAll(text, "\r\n", "\n"))
		return
	}
	words := strings.Fields(text)
	if len(words) == 0 {
		if text != "" && p.gap == "" {
			p.gap = " "
		}
		return
	}
	if p.gap == "" && startsWithSpace(text) {
		p.gap = " "
	}
	if p.text.Len() > 0 {
		p.text.WriteString(p.gap)
	}
	p.gap = ""
	p.text.WriteString(strings.Join(words, " "))
	if last := text[len(text)-1]; last == ' ' || last == '\n' || last == '\t' || last == '\r' {
		p.gap = " "
	}
}

func startsWithSpace(text string) bool { return strings.TrimLeft(text, " \t\r\n") != text }
