from tgrpo.policies.prompt import VOCABULARY, build_prompt, encode_prompt, words_of


def test_prompt_as_openvla_writes_it():
    assert build_prompt("Put the bowl on the plate.") == (
        "In: What action should the robot take to put the bowl on the plate?\nOut:"
    )


def test_spaces_around_an_instruction_do_not_count():
    assert build_prompt("  turn on the stove ") == build_prompt("turn on the stove")


def test_words_and_marks_in_order():
    assert words_of("In: the left-most bowl?") == ["in", ":", "the", "left-most", "bowl", "?"]


def test_vocabulary_has_no_word_twice_and_pads_with_zero():
    assert len(set(VOCABULARY)) == len(VOCABULARY)
    assert VOCABULARY[0] == "<pad>"


def test_token_ids_by_hand():
    ids = encode_prompt("turn on the stove")
    words = [VOCABULARY[i] for i in ids]
    assert " ".join(words) == "<bos> in : what action should the robot take to turn on the stove ? out :"


def test_an_unknown_word_is_marked():
    assert VOCABULARY.index("<unk>") in encode_prompt("juggle the stove")
    assert VOCABULARY.index("<unk>") not in encode_prompt("open the top drawer of the cabinet")


def test_instructions_that_differ_get_different_ids():
    assert encode_prompt("pick up the milk and place it in the basket") != encode_prompt(
        "pick up the butter and place it in the basket"
    )
