from __future__ import annotations

import pytest

from iit_toolkit.data.wikitext import detokenize, wikitext_articles


@pytest.mark.parametrize(
    ("tokenised", "plain"),
    [
        ("0 @.@ 7 – 2 @.@ 2 kg", "0.7 – 2.2 kg"),
        ("more than 1 @,@ 000 @,@ 000 men", "more than 1,000,000 men"),
        ("the then @-@ unknown author", "the then-unknown author"),
        ("Lobsters , crabs ; and : ( some ) shrimps .", "Lobsters, crabs; and: (some) shrimps."),
        ('only becoming " lobster red " on cooking', 'only becoming "lobster red" on cooking'),
        ('" A " and " B " .', '"A" and "B".'),
        ("the lobster 's claw , they did n't see", "the lobster's claw, they didn't see"),
        ("weighs [ citation needed ] 60 % !", "weighs [citation needed] 60%!"),
        ("a <unk> b", "a <unk> b"),
        ("an e @-@ mail at 5 @ home", "an e-mail at 5 @ home"),
    ],
)
def test_spaces_of_the_tokenisation_are_undone(tokenised: str, plain: str) -> None:
    assert detokenize(tokenised) == plain


def test_unknown_words_become_the_token_of_the_tokenizer() -> None:
    assert detokenize("a <unk> , b", "[UNK]") == "a [UNK], b"


def test_lines_become_articles_without_headings() -> None:
    lines = [
        " \n",
        " = First = \n",
        "",
        " One . \n",
        " \n",
        " = = Section = = \n",
        "",
        " Two . \n",
        " Three : a = b \n",
        " = 1 Ω and c = \n",
        " 2 . \n",
        "",
        " = = = Deeper = = = \n",
        " ",
        " = Second = \n",
        " ",
        " Four = 4 \n",
        " ",
        " = Empty = \n",
    ]
    assert wikitext_articles(lines) == ["One.\nTwo.\nThree: a = b\n= 1 Ω and c =\n2.", "Four = 4"]


def test_text_before_the_first_title_is_kept() -> None:
    assert wikitext_articles(["a", "", " = T = ", "", "b"]) == ["a", "b"]
