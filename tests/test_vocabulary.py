import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright.errors import VocabularyError
from maskwright.vocabulary import Label, Vocabulary


def test_parse_separates_labels_and_synonyms():
    vocabulary = Vocabulary.parse("dog, red  apple,cat|kitten\nbird,\n")
    assert vocabulary.names == ("dog", "red apple", "cat", "bird")
    assert vocabulary[2] == Label("cat", ("kitten",))
    assert vocabulary[2].texts == ("cat", "kitten")
    assert [label.name for label in vocabulary] == list(vocabulary.names)
    assert len(vocabulary) == 4


def test_parse_takes_the_items_of_a_list_as_one_label_each():
    vocabulary = Vocabulary.parse(["red, ripe apple", "cat|kitten", Label("owl", background=True)])
    assert vocabulary.names == ("red, ripe apple", "cat", "owl")
    assert vocabulary.numbers == (1, 2, 0)


@pytest.mark.parametrize("text", ["狗，猫", "狗、猫", "كلب، قطة"])
def test_parse_knows_the_commas_of_other_scripts(text):
    assert len(Vocabulary.parse(text)) == 2


def test_texts_are_normalised_before_they_are_compared():
    assert Label("cafe\u0301  au\tlait").name == "café au lait"
    with pytest.raises(VocabularyError, match="café"):
        Vocabulary.parse("café, cafe\u0301")


@pytest.mark.parametrize(
    ("labels", "background", "names", "numbers"),
    [
        ("dog, wall", "wall", ("dog", "wall"), (1, 0)),
        ("dog, Wall|floor", "FLOOR", ("dog", "Wall"), (1, 0)),
        ("dog, cat", "background", ("background", "dog", "cat"), (0, 1, 2)),
        ("dog, wall, cat", "wall|floor|sky", ("floor", "dog", "wall", "cat"), (0, 1, 0, 2)),
    ],
)
def test_background_words_mark_labels_or_make_a_new_one_in_front(labels, background, names, numbers):
    vocabulary = Vocabulary.parse(labels, background=background)
    assert vocabulary.names == names
    assert vocabulary.numbers == numbers
    assert [label.name for label in vocabulary.foreground] == [n for n, i in zip(names, numbers, strict=True) if i]


def test_index_finds_names_and_synonyms_in_any_case():
    vocabulary = Vocabulary.parse("dog, cat|Kitten")
    assert vocabulary.index("KITTEN") == vocabulary.index(" cat ") == 1
    with pytest.raises(VocabularyError, match="no label 'cow': choose one of dog, cat"):
        vocabulary.index("cow")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("", "no labels"),
        (" , \n", "no labels"),
        ([], "no labels"),
        ([""], "empty"),
        ("dog, DOG", "'DOG' stands for the label 'dog' and for 'DOG'"),
        ("dog|puppy, puppy", "'puppy' stands for the label 'dog' and for 'puppy'"),
        ("dog|Dog", "stands for"),
        ("dog|", "empty synonym"),
        ("|dog", "empty synonym"),
        ("x" * 201, "201 characters"),
        ("dog\x1b[31m", "control"),
        ("dog\u202egod", "control"),
        ("dog\ud800", "control"),
        ("dog\u200b", "invisible"),
        ("a <|EndOfText|> b", "special token"),
        ("dog</s>", "special token"),
        ([7], "not int"),
    ],
)
def test_unusable_labels_are_refused_in_one_line(labels, message):
    with pytest.raises(VocabularyError, match=message.replace("|", r"\|")) as caught:
        Vocabulary.parse(labels)
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).isprintable()


def test_a_vocabulary_needs_more_than_background():
    with pytest.raises(VocabularyError, match="every label is background"):
        Vocabulary.parse("wall", background="wall")


def test_labels_made_directly_are_checked_too():
    with pytest.raises(VocabularyError, match=r"holds \|"):
        Label("cat|kitten")
    with pytest.raises(VocabularyError, match="give a tuple"):
        Label("cat", "kitten")
    with pytest.raises(VocabularyError, match="no labels"):
        Vocabulary(())


def test_placeholder_tokens_and_joined_letters_are_labels():
    assert Vocabulary.parse("<my-cat>, می\u200cخواهم").names == ("<my-cat>", "می\u200cخواهم")


@given(st.lists(st.text(st.characters(categories=("L", "N")), min_size=1, max_size=20), min_size=1, max_size=8))
def test_every_list_of_distinct_words_survives_the_way_through_text(words):
    try:
        vocabulary = Vocabulary.parse(words)
    except VocabularyError as error:
        assert "stands for" in str(error)
        return
    assert Vocabulary.parse(", ".join("|".join(label.texts) for label in vocabulary)) == vocabulary


def test_from_file_reads_lines_and_comments(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("\ufeff# pets\ndog\n\n  cat|kitten   # the small one\r\nC# book, red\n", encoding="utf-8")
    assert Vocabulary.from_file(path).names == ("dog", "cat", "C# book, red")
    assert Vocabulary.from_file(path, background="cat").numbers == (1, 0, 2)


def test_from_file_reads_a_json_list(tmp_path):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(["dog", "cat|kitten"]), encoding="utf-8")
    assert Vocabulary.from_file(str(path)) == Vocabulary.parse("dog, cat|kitten")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfe", "UTF-8"), (b"[1, 2]", "not a list of texts"), (b"[dog", "not valid JSON"), (b"# nothing\n", "no labels")],
)
def test_from_file_refuses_what_is_no_list(tmp_path, content, message):
    path = tmp_path / "labels"
    path.write_bytes(content)
    with pytest.raises(VocabularyError, match=message):
        Vocabulary.from_file(path)


def test_from_file_names_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(VocabularyError, match="nowhere"):
        Vocabulary.from_file(tmp_path / "nowhere")
    with pytest.raises(VocabularyError, match="give a file"):
        Vocabulary.from_file(tmp_path)


def test_the_module_imports_nothing_heavy():
    code = "import sys, maskwright.vocabulary; print({'torch', 'numpy', 'PIL'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"
