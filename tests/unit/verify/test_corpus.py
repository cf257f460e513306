"""Prose out of POD pages."""

from __future__ import annotations

from types import ModuleType

import pytest

PAGE = """=encoding utf8

=head1 NAME

perlthing - a B<thing> of C<< a <=> b >>

=head2 Why?

See L<perlre>, L<the manual|perlfunc/"sort"> and L</Why?>; E<lt>tagE<gt> costs 1E<sol>2. X<index>

  my $code = "is not prose";
    not this either;

=over 4

=item C<--flag>

What the flag does,
on two lines.

=back

=begin html

<p>for others</p>

=end html

The F<end>.

=cut
"""


def test_prose_keeps_headings_and_paragraphs_and_leaves_code_and_mark_up(corpus: ModuleType) -> None:
    assert corpus.prose(PAGE).split("\n\n") == [
        "NAME.",
        "perlthing - a thing of a <=> b",
        "Why?.",
        "See perlre, the manual and Why?; <tag> costs 1/2.",
        "What the flag does, on two lines.",
        "The end.\n",
    ]


@pytest.mark.parametrize(
    ("marked", "plain"),
    [
        ("B<bold I<and italic>>", "bold and italic"),
        ("C<<< $a << 2 >>>", "$a << 2"),
        ("E<eacute>t E<amp>", "ét &"),
        ("if a < b and b > c", "if a < b and b > c"),
    ],
)
def test_formatting_codes_are_resolved_however_they_nest(corpus: ModuleType, marked: str, plain: str) -> None:
    assert corpus.plain(marked) == plain
