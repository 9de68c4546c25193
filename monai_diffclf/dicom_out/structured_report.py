# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What was found of an image as a structured report, DICOM's template 1500."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from ..image_io.dicom_class import MANUFACTURER
from .codes import NATS, NO_UNITS, SIDES, Codes, class_concept, private_concept, site_concept
from .finding import Algorithm, Finding
from .image_library import image_library
from .library import common, highdicom, observer, settle
from .series import instance_number, series_uid
from .source import Source
from .text import vr_text
from .uids import new_uid

__all__ = ["DISCLAIMER", "structured_report"]

DISCLAIMER = "Not a medical device. For research only."

_SERIES_NUMBER = 9601
_PROBABILITY = Code("122157", "DCM", "Probability")
_COMMENT = Code("121106", "DCM", "Comment")
_FAMILY = Code("123110", "DCM", "Artificial Intelligence")
_PRESENCE = Code("121052", "DCM", "Presence of property")
_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
_INTERVAL = "The uncertainty range of the vote share is its 95 % interval (Wilson)."


def structured_report(
    source: Source,
    finding: Finding | Sequence[Finding],
    algorithm: Algorithm,
    *,
    when: datetime,
    codes: Codes | None = None,
) -> Dataset:
    """A Comprehensive SR document of TID 1500 (Measurement Report) about one image, or the slices of one volume.

    Its one measurement group (TID 1501) holds, as the finding, the most probable class; the probability of it (122157,
    DCM) and of every class; with votes, the winner's share with its 95 % interval, as lower and upper range of
    measurement uncertainty (371886008 and 371885007, SCT), which are the probability's too where it is that share; all
    measures of uncertainty; each class of the prediction set; algorithm, version, weights and settings; the images.
    The document is complete, preliminary and unverified.

    Of several findings each has such a group: the finding, whether it is present, absent or undecided (121052, DCM),
    the probability that it is present with the share of the draws that say so, and the rest as above.

    Args:
        source: the image.
        finding: what was found, or all of several findings.
        algorithm: what has found it.
        when: time of the document.
        codes: codes of some classes, see `class_concept`.

    Returns:
        the document, as highdicom makes it.

    Raises:
        ValueError: when highdicom is not installed, or the source cannot be referred to.
    """
    hd = highdicom()
    findings = [finding] if isinstance(finding, Finding) else list(finding)
    facts = (source.instances, [each.facts() for each in findings], algorithm.__dict__, when.isoformat())
    report = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(
            observer_device_context=observer(algorithm, serial_number=vr_text(algorithm.weights, "LO") or "unknown")
        ),
        procedure_reported=_PROCEDURE,
        imaging_measurements=[
            _group(source, each, algorithm, new_uid("group", number, facts), codes)
            for number, each in enumerate(findings)
        ],
    )
    # Before the measurements, where the template has it; highdicom's own demands what a header may lack.
    report[0].ContentSequence.insert(-1, image_library(source))
    document = hd.sr.ComprehensiveSR(
        evidence=list(source.headers),
        content=report[0],
        series_instance_uid=series_uid(source, "report", algorithm, when),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=new_uid("report", facts),
        instance_number=instance_number(source),
        is_complete=True,
        is_final=False,
        is_verified=False,
        content_date=when.date(),
        content_time=when.time(),
        **common(algorithm.name, f"Classification by {algorithm.name}, research only", when),
    )
    settle(document, when)
    return document  # type: ignore[no-any-return]


def _group(source: Source, finding: Finding, algorithm: Algorithm, uid: str, codes: Codes | None) -> Any:
    """The measurement group."""
    hd = highdicom()
    place = site_concept(source.first)
    sites = [] if place is None else [hd.sr.FindingSite(place, laterality=SIDES.get(source.laterality))]
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=uid, identifier=vr_text(finding.name or "classification", "UT")
        ),
        finding_type=class_concept(finding.what, codes),
        finding_sites=sites or None,
        algorithm_id=hd.sr.AlgorithmIdentification(
            name=vr_text(algorithm.name, "UT"),
            version=vr_text(algorithm.version, "UT"),
            parameters=[vr_text(each, "UT") for each in (f"weights={algorithm.weights}", *algorithm.parameters)],
            family=_FAMILY,
            manufacturer=MANUFACTURER,
        ),
        measurements=list(_measurements(finding)),
        qualitative_evaluations=[*_presence(finding), *_prediction_set(finding, codes)] or None,
        source_images=[
            hd.sr.SourceImageForMeasurementGroup(str(header.SOPClassUID), str(header.SOPInstanceUID))
            for header in source.headers
        ],
    )
    texts = [DISCLAIMER, *([_INTERVAL] if finding.interval else []), *([finding.warnings] if finding.warnings else [])]
    for text in texts:
        group[0].ContentSequence.append(
            hd.sr.TextContentItem(name=_COMMENT, value=vr_text(text, "UT"), relationship_type="CONTAINS")
        )
    return group


def _measurements(finding: Finding) -> Iterator[Any]:
    """Numbers: probabilities, the winner's share of the votes, and how sure it is."""
    probability = finding.probabilities[finding.asked]
    share = finding.vote_shares.get(finding.asked)
    yield _number(_PROBABILITY, probability, interval=finding.interval if share == probability else None)
    for name, value in finding.probabilities.items() if not finding.name else ():
        yield _number(private_concept(f"p {name}", f"Probability of {name}"), value)
    if share is not None:
        # The interval is of the winner's share, which need not be that of the class: rules may differ.
        interval = finding.interval if finding.name or share == max(finding.vote_shares.values()) else None
        yield _number(private_concept("vote share", "Share of the draws that vote for the class"), share, interval)
    for name, value in finding.uncertainty.items():
        unit = NATS if "entropy" in name else NO_UNITS
        yield _number(private_concept(name, name.replace("_", " ").capitalize()), value, unit=unit)


def _number(name: Code, value: float, interval: tuple[float, float] | None = None, unit: Code = NO_UNITS) -> Any:
    hd = highdicom()
    properties = None
    if interval is not None:
        low, high = interval
        properties = hd.sr.MeasurementProperties(
            upper_measurement_uncertainty=round(high - value, 6), lower_measurement_uncertainty=round(value - low, 6)
        )
    return hd.sr.Measurement(name=name, value=value, unit=unit, properties=properties)


def _presence(finding: Finding) -> Iterator[Any]:
    """Whether one of several findings is there."""
    if finding.name:
        yield highdicom().sr.QualitativeEvaluation(_PRESENCE, class_concept(finding.state))


def _prediction_set(finding: Finding, codes: Codes | None) -> Iterator[Any]:
    """Each class of the prediction set; that it is empty, where it is."""
    hd = highdicom()
    name = private_concept("prediction set", "Class of the prediction set")
    for member in finding.prediction_set or ():
        yield hd.sr.QualitativeEvaluation(name, class_concept(member, codes))
    if finding.prediction_set == ():
        yield hd.sr.QualitativeEvaluation(
            name, private_concept("empty prediction set", "None: the prediction set is empty")
        )
