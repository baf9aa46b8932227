"""What was asked for, beside what was seen."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bench.figures import Figure
from bench.fusion.data import CLEAN, DEV, MODALITIES
from bench.fusion.trainings import FUSERS, STUDENT_SHARE, TEACHER, Outcome, Training
from pipeline.fusion.neural import checkpoint
from pipeline.training.compare import compare
from pipeline.training.data import Split, TrainingSet
from pipeline.training.metrics import Interval, mean_interval

DEV_ASKED, CLEAN_ASKED, STUDENT_ASKED = 0.98, 0.99, 0.98


def of(outcomes: Sequence[Outcome], data: str, name: str) -> list[Outcome]:
    """The outcomes of one kind of training, by seed."""
    own = [each for each in outcomes if (each.training.data, each.training.name) == (data, name)]
    return sorted(own, key=lambda each: each.training.seed)


def mean_of(values: Iterable[float]) -> Interval:
    return mean_interval(list(values))


def judge(outcomes: Sequence[Outcome]) -> list[Figure]:
    """Everything that can be told from what was trained."""
    figures = []
    for data, asked in ((DEV, DEV_ASKED), (CLEAN, CLEAN_ASKED)):
        accuracy = {
            name: mean_of(each.accuracy for each in of(outcomes, data, name))
            for name in (*FUSERS, *MODALITIES)
            if of(outcomes, data, name)
        }
        if len(accuracy) == len(FUSERS) + len(MODALITIES):
            figures += _beyond_single(data, accuracy)
            best = max(FUSERS, key=lambda name: accuracy[name].value)
            figures.append(
                Figure(
                    name=f"{data}: accuracy of the best fuser",
                    asked=f"at least {asked}",
                    seen=accuracy[best].value,
                    met=accuracy[best].value >= asked,
                    notes=[f"{best}, {accuracy[best]}"],
                )
            )
    figures += _attention_and_concat(outcomes)
    figures += _missing(outcomes)
    figures += _student(outcomes)
    return figures


def paired_tests(
    outcomes: Sequence[Outcome], sets: Mapping[str, tuple[TrainingSet, Split]], folder: Path
) -> list[str]:
    """Pairs of models of seed 0, on the rows of the test part."""
    lines = []
    pairs = [("concat", "attention"), ("late", "attention"), ("late", "concat")]
    pairs += [(single, fuser) for single in MODALITIES[:1] for fuser in FUSERS]
    for data, (training_set, split) in sets.items():
        for a, b in pairs:
            trained = [Training(data=data, name=name, seed=0) for name in (a, b)]
            if not all(of(outcomes, data, each.name) for each in trained):
                continue
            loaded = [checkpoint.load(folder / each.folder) for each in trained]
            found = compare(loaded[0], loaded[1], training_set, split.test)
            if found.accuracy is not None:
                lines.append(
                    f"{data}: {b} less {a}, seed 0: {found.accuracy.difference}, "
                    f"McNemar's p = {found.accuracy.p_value:.2g}"
                )
    return lines


def _beyond_single(data: str, accuracy: Mapping[str, Interval]) -> list[Figure]:
    single = max(MODALITIES, key=lambda name: accuracy[name].value)
    return [
        Figure(
            name=f"{data}: {fuser} less the best single modality",
            asked="intervals apart",
            seen=accuracy[fuser].value - accuracy[single].value,
            met=accuracy[fuser].low > accuracy[single].high,
            notes=[f"{accuracy[fuser]} against {single} {accuracy[single]}"],
        )
        for fuser in FUSERS
    ]


def _attention_and_concat(outcomes: Sequence[Outcome]) -> list[Figure]:
    rows = [of(outcomes, DEV, name) for name in ("concat", "attention")]
    if not all(rows) or len(rows[0]) != len(rows[1]):
        return []
    pairs = zip(*rows, strict=True)
    difference = mean_of(attention.accuracy - concat.accuracy for concat, attention in pairs)
    return [
        Figure(
            name=f"{DEV}: attention less concat",
            asked="at least 0",
            seen=difference.value,
            met=difference.value >= 0,
            notes=[f"over the seeds, in pairs: {difference}"],
        )
    ]


def _missing(outcomes: Sequence[Outcome]) -> list[Figure]:
    figures = []
    for fuser in ("concat", "attention"):
        dropped, undropped = (of(outcomes, DEV, name) for name in (fuser, f"{fuser} undropped"))
        if not dropped or not undropped:
            continue
        for lost in MODALITIES:
            losses = [
                mean_of(each.accuracy - each.without[lost] for each in rows)
                for rows in (dropped, undropped)
            ]
            figures.append(
                Figure(
                    name=f"{DEV}: {fuser}'s loss without {lost}, less that without dropout",
                    asked="below 0",
                    seen=losses[0].value - losses[1].value,
                    met=losses[0].value < losses[1].value,
                    notes=[f"{losses[0]} with modality dropout, {losses[1]} without"],
                )
            )
    return figures


def _student(outcomes: Sequence[Outcome]) -> list[Figure]:
    students, teachers = of(outcomes, DEV, "student"), of(outcomes, DEV, TEACHER)
    if not students or len(students) != len(teachers):
        return []
    kept = mean_of(
        student.accuracy / teacher.accuracy
        for student, teacher in zip(students, teachers, strict=True)
    )
    size = students[0].parameters / teachers[0].parameters
    return [
        Figure(
            name=f"{DEV}: accuracy of the student / of its teacher",
            asked=f"at least {STUDENT_ASKED}, at {STUDENT_SHARE} of its parameters",
            seen=kept.value,
            met=kept.value >= STUDENT_ASKED and size <= STUDENT_SHARE,
            notes=[
                f"{kept}; {students[0].parameters:,} parameters, {size:.3f} of the teacher's",
            ],
        )
    ]
