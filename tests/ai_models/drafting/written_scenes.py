"""Evidence of six results, and sentences on them that were written by hand.

They were written without looking at what the guard reads, the way that people and language models
write impressions, to see how much it strikes that is true and keeps that is not.
"""

from __future__ import annotations

from typing import Any

from ai_models.drafting.evidence import EvidenceItem, EvidenceList


def evidence_of(*items: dict[str, Any]) -> EvidenceList:
    return EvidenceList(tuple(
        EvidenceItem(id=f"E{number}", **item) for number, item in enumerate(items, start=1)
    ))


def measured(
    finding: str, quantity: str, value: float, unit: str, decimals: int = 1,
    **told: Any,
) -> dict[str, Any]:
    return {
        "kind": "measurement", "finding": finding, "quantity": quantity, "value": value,
        "unit": unit, "decimals": decimals, **told,
    }


def scored(finding: str, site: str, value: float, status: str) -> dict[str, Any]:
    return {
        "kind": "score", "finding": finding, "site": site, "value": value, "status": status,
        "quantity": "Probability", "unit": "1", "decimals": 3, "bounds": (0.7, 0.3),
    }


LUNG: dict[str, Any] = {"site": "Lung"}
NODULES = evidence_of(
    {"kind": "count", "finding": "Nodule", "value": 2.0, **LUNG},                          # E1
    measured("Nodule 1", "Long axis", 8.4, "mm", side="left", **LUNG),                     # E2
    measured("Nodule 1", "Short axis", 5.6, "mm", side="left", **LUNG),                    # E3
    measured("Nodule 1", "Volume", 0.312, "ml", 3, side="left", **LUNG),                   # E4
    {"kind": "term", "finding": "Nodule 1", "term": "Part-solid", "side": "left", **LUNG},  # E5
    {"kind": "comparison", "finding": "Nodule 1", "status": "grown", "before_ml": 0.186,
     "after_ml": 0.312, "percent": 68.0, "days": 182, "side": "left", **LUNG},             # E6
    measured("Nodule 1", "Volume doubling time", 244.0, "d", 0, side="left", **LUNG),      # E7
    measured("Nodule 2", "Long axis", 12.0, "mm", side="right", **LUNG),                   # E8
    measured("Nodule 2", "Mean attenuation coefficient", -32.5, "[hnsf'U]", side="right", **LUNG),
    {"kind": "comparison", "finding": "Nodule 2", "status": "steady", "before_ml": 0.9,
     "after_ml": 0.88, "percent": 2.0, "days": 182, "side": "right", **LUNG},              # E10
)
CHEST = evidence_of(
    scored("Pneumothorax", "Pleura", 0.031, "absent"),                                     # E1
    scored("Pleural effusion", "Pleura", 0.884, "present"),                                # E2
    scored("Cardiomegaly", "Heart", 0.512, "undetermined"),                                # E3
    scored("Consolidation", "Lung", 0.742, "present"),                                     # E4
    scored("Fracture", "Chest", 0.118, "absent"),                                          # E5
    scored("Pulmonary oedema", "Lung", 0.044, "absent"),                                   # E6
    {"kind": "not_analysed", "finding": "Lung lesion", **LUNG},                            # E7
)
LUNGS = evidence_of(
    measured("Left lung", "Volume", 2210.4, "ml", side="left", **LUNG),                    # E1
    measured("Left lung", "Mean attenuation coefficient", -812.3, "[hnsf'U]", side="left", **LUNG),
    measured("Right lung", "Volume", 2687.9, "ml", side="right", **LUNG),                  # E3
    measured("Right lung", "Mean attenuation coefficient", -820.6, "[hnsf'U]", side="right",
             **LUNG),                                                                      # E4
    measured("Both lungs", "Volume", 4898.3, "ml", side="both", **LUNG),                   # E5
)
HAND = evidence_of(
    measured("Bone age", "Bone age by Greulich and Pyle", 131.6, "mo", site="Hand"),       # E1
    measured("Bone age", "Z-score", -1.2, "1", site="Hand"),                               # E2
)
EMBOLISM = evidence_of(
    scored("Pulmonary embolism", "Pulmonary artery", 0.936, "present"),                    # E1
    measured("Pulmonary embolism", "Volume", 3.42, "ml", 2, site="Pulmonary artery"),      # E2
    measured("Pulmonary embolism", "Obstruction index", 22.5, "%", site="Pulmonary artery"),
)
NOTHING = evidence_of(
    {"kind": "not_found", "finding": "Nodule", **LUNG},                                    # E1
    {"kind": "comparison", "finding": "Nodule 4", "status": "gone", "before_ml": 0.21,
     "days": 90},                                                                          # E2
)

# Evidence, the ids that are cited, and the sentence.
FAITHFUL: tuple[tuple[EvidenceList, str, str], ...] = (
    (NODULES, "E1", "Two pulmonary nodules were identified."),
    (NODULES, "E1", "There are two lung nodules."),
    (NODULES, "E1", "The analysis identified 2 nodules in the lungs."),
    (NODULES, "E1", "A total of two nodules was detected."),
    (NODULES, "E2", "Nodule 1 in the left lung measures 8.4 mm."),
    (NODULES, "E2", "The left lung contains an 8 mm nodule."),
    (NODULES, "E2", "Left-sided pulmonary nodule measuring up to 8.4 mm."),
    (NODULES, "E2", "An 8.4-mm nodule is located in the left lung."),
    (NODULES, "E2 E3", "Nodule 1 measures 8.4 x 5.6 mm in the left lung."),
    (NODULES, "E2 E3", "Nodule 1 measures 8 × 6 mm (long and short axis)."),
    (NODULES, "E2 E3 E4", "Nodule 1 measures 8.4 × 5.6 mm with a volume of 0.31 mL."),
    (NODULES, "E2 E5", "Part-solid nodule in the left lung, 8.4 mm in its longest diameter."),
    (NODULES, "E5", "The nodule in the left lung is part-solid in consistency."),
    (NODULES, "E5 E6", "The part-solid nodule in the left lung has increased in volume by 68%."),
    (NODULES, "E6", "Compared with the prior examination 182 days earlier, nodule 1 has grown."),
    (NODULES, "E6", "Nodule 1 shows interval growth, from 0.186 ml to 0.312 ml."),
    (NODULES, "E6", "The volume of nodule 1 increased from 0.19 to 0.31 mL over 182 days."),
    (NODULES, "E6", "Nodule 1 has increased in size over the last 6 months."),
    (NODULES, "E6 E7", "Nodule 1 has grown, with an estimated volume doubling time of 244 days."),
    (NODULES, "E7", "The volume doubling time of the left nodule is 244 days."),
    (NODULES, "E6", "Growth of the left-sided nodule since the prior study (68 %)."),
    (NODULES, "E8", "Nodule 2 in the right lung has a maximum diameter of 1.2 cm."),
    (NODULES, "E8", "A 12 mm nodule is seen in the right lung."),
    (NODULES, "E8 E9", "Nodule 2 measures 12 mm and has a mean attenuation of -32.5 HU."),
    (NODULES, "E10", "Nodule 2 is stable compared to 182 days ago."),
    (NODULES, "E10", "No significant change in nodule 2 over 26 weeks."),
    (NODULES, "E10", "Nodule 2 has remained stable since the previous examination."),
    (NODULES, "E10",
     "The right lung nodule is unchanged in volume (0.90 ml previously, 0.88 ml now)."),
    (NODULES, "E6 E10", "Nodule 1 has grown while nodule 2 is stable."),
    (NODULES, "E6 E10", "Nodule 1 has grown; nodule 2 is unchanged over 182 days."),
    (NODULES, "E2 E8", "Nodules in both lungs: nodule 1 (8.4 mm) and nodule 2 (12 mm)."),
    (NODULES, "E1 E2 E8", "Two nodules are present, measuring 8.4 mm and 12.0 mm."),
    (CHEST, "E2", "Pleural effusion is present."),
    (CHEST, "E2", "Findings suggestive of pleural effusion (probability 0.88)."),
    (CHEST, "E2", "There is a pleural effusion."),
    (CHEST, "E2", "The model indicates a pleural effusion with a probability of 88%."),
    (CHEST, "E2", "Pleural effusion detected, score 0.884."),
    (CHEST, "E2 E4", "Pleural effusion and consolidation are present."),
    (CHEST, "E2 E4", "Findings consistent with consolidation and pleural effusion."),
    (CHEST, "E4", "Consolidation is present in the lung."),
    (CHEST, "E4", "Pulmonary consolidation is seen."),
    (CHEST, "E1", "No pneumothorax."),
    (CHEST, "E1", "No evidence of a pneumothorax."),
    (CHEST, "E1", "Pneumothorax is not identified."),
    (CHEST, "E1", "There is no sign of pneumothorax (probability 0.03)."),
    (CHEST, "E1 E5", "No pneumothorax or fracture."),
    (CHEST, "E1 E5 E6", "No pneumothorax, fracture or pulmonary edema is detected."),
    (CHEST, "E1 E5 E6", "Pneumothorax, fracture and pulmonary oedema are absent."),
    (CHEST, "E1 E5", "Neither a pneumothorax nor a fracture is identified."),
    (CHEST, "E5", "Fracture is unlikely, with a probability of 12 %."),
    (CHEST, "E3", "Cardiomegaly cannot be excluded."),
    (CHEST, "E3", "Cardiomegaly is indeterminate (probability 0.51)."),
    (CHEST, "E3", "Possible cardiomegaly."),
    (CHEST, "E3", "The result for cardiomegaly is inconclusive, with a score of 0.512."),
    (CHEST, "E3", "Possible enlargement of the heart."),
    (CHEST, "E3", "It remains undetermined whether cardiomegaly is present."),
    (CHEST, "E2 E1", "Pleural effusion is present without pneumothorax."),
    (CHEST, "E2 E1", "Pleural effusion, but no pneumothorax."),
    (CHEST, "E4 E3", "Consolidation is present; cardiomegaly is undetermined."),
    (CHEST, "E7", "The presence of a lung lesion was not assessed."),
    (CHEST, "E7", "Lung lesion was not evaluated."),
    (CHEST, "E6", "The probability of pulmonary edema is 4.4%."),
    (LUNGS, "E1", "The left lung has a volume of 2210 ml."),
    (LUNGS, "E1", "Left lung volume: 2.21 l."),
    (LUNGS, "E1 E2", "The left lung measures 2210.4 ml with a mean density of -812 HU."),
    (LUNGS, "E3", "Right lung volume amounts to 2,688 mL."),
    (LUNGS, "E1 E3", "Lung volumes are 2210 ml on the left and 2688 ml on the right."),
    (LUNGS, "E1 E3", "The left lung has a volume of 2210 ml and the right lung of 2688 ml."),
    (LUNGS, "E5", "The total volume of both lungs is 4898 ml."),
    (LUNGS, "E5", "Combined volume of both lungs is 4.9 l."),
    (LUNGS, "E4", "Mean attenuation of the right lung is -821 HU."),
    (LUNGS, "E2 E4", "Mean attenuation is -812 HU in the left lung and -821 HU in the right lung."),
    (HAND, "E1", "The bone age is estimated at 131.6 months."),
    (HAND, "E1", "Bone age of approximately 11.0 years according to Greulich and Pyle."),
    (HAND, "E1", "Estimated bone age: 132 months."),
    (HAND, "E1 E2", "The bone age is 131.6 months, corresponding to a z-score of -1.2."),
    (HAND, "E2", "The z-score is -1.2."),
    (EMBOLISM, "E1", "Pulmonary embolism is present."),
    (EMBOLISM, "E1", "Positive for pulmonary embolism (probability 0.94)."),
    (EMBOLISM, "E1 E2", "Pulmonary embolism with a clot volume of 3.4 ml."),
    (EMBOLISM, "E1 E3", "Pulmonary embolism is present, with an obstruction index of 22.5 %."),
    (EMBOLISM, "E1", "Findings compatible with pulmonary embolism."),
    (EMBOLISM, "E1", "PE is likely, with a probability of 94%."),
    (NOTHING, "E1", "No nodule was found in the lung."),
    (NOTHING, "E1", "No nodules were detected."),
    (NOTHING, "E2", "Nodule 4, 0.21 ml 90 days ago, is no longer detected."),
    (NOTHING, "E2", "The previously seen nodule 4 was not found on the present examination."),
)  # fmt: skip

FALSE: tuple[tuple[EvidenceList, str, str], ...] = (
    (NODULES, "E1", "Three pulmonary nodules were identified."),
    (NODULES, "E1", "Multiple pulmonary nodules were identified."),
    (NODULES, "E1", "A solitary pulmonary nodule was identified."),
    (NODULES, "E2", "Nodule 1 in the right lung measures 8.4 mm."),
    (NODULES, "E2", "Nodule 1 in the left lung measures 8.4 cm."),
    (NODULES, "E2", "Nodule 1 measures 4.8 mm."),
    (NODULES, "E2", "Nodule 1 measures less than 8 mm."),
    (NODULES, "E2", "Nodule 1 in the left upper lobe measures 8.4 mm."),
    (NODULES, "E2", "The nodule in the liver measures 8.4 mm."),
    (NODULES, "E2", "A spiculated 8.4 mm nodule is seen in the left lung."),
    (NODULES, "E2", "An 8.4 mm nodule is seen, suspicious for malignancy."),
    (NODULES, "E2 E3", "Nodule 1 measures 5.6 x 8.4 mm."),
    (NODULES, "E2 E3", "Nodule 1 has a short axis of 8.4 mm and a long axis of 5.6 mm."),
    (NODULES, "E3", "A 5.6 mm nodule is seen in the left lung."),
    (NODULES, "E2 E3", "Nodule 1 measures 8.4 x 5.6 x 5.0 mm."),
    (NODULES, "E5", "Nodule 1 is solid."),
    (NODULES, "E5", "Nodule 1 is not part-solid."),
    (NODULES, "E6", "Nodule 1 is unchanged."),
    (NODULES, "E6", "Nodule 1 has not grown."),
    (NODULES, "E6", "Nodule 1 has shrunk by 68 %."),
    (NODULES, "E6", "Nodule 1 is new."),
    (NODULES, "E6", "Nodule 1 has grown from 0.312 ml to 0.186 ml."),
    (NODULES, "E6", "Nodule 1 has grown over 182 weeks."),
    (NODULES, "E6", "Nodule 1 has grown by 182 % in 68 days."),
    (NODULES, "E6", "Nodule 1 has grown by 0.312 ml."),
    (NODULES, "E6 E7", "Nodule 1 has grown, with a doubling time of 182 days."),
    (NODULES, "E6 E7", "Nodule 1 has grown over 244 days."),
    (NODULES, "E6 E10", "Nodule 1 and nodule 2 have grown."),
    (NODULES, "E6 E10", "Both nodules have grown."),
    (NODULES, "E6 E10", "Nodule 2 has grown while nodule 1 is stable."),
    (NODULES, "E6 E10", "Nodule 1, and also nodule 2, has grown."),
    (NODULES, "E6 E8", "Nodule 1 has grown and now measures 12 mm."),
    (NODULES, "E2 E8", "Nodule 1 measures 12 mm and nodule 2 measures 8.4 mm."),
    (NODULES, "E2 E8", "Nodule 1 is larger than nodule 2."),
    (NODULES, "E8 E9", "Nodule 2 measures 12 mm and has a mean attenuation of 32.5 HU."),
    (NODULES, "E8", "Nodule 2 in the right lung measures 12 mm and is stable."),
    (NODULES, "E1", "No pulmonary nodules were identified."),
    (NODULES, "E10", "Nodule 2 has resolved."),
    (NODULES, "E10", "Nodule 2 is no longer seen."),
    (NODULES, "E6", "Nodule 1 has grown; follow-up CT in 3 months is recommended."),
    (CHEST, "E2", "No pleural effusion."),
    (CHEST, "E2", "Possible pleural effusion."),
    (CHEST, "E2", "Left pleural effusion is present."),
    (CHEST, "E2", "Bilateral pleural effusions are present."),
    (CHEST, "E2", "Large pleural effusion."),
    (CHEST, "E2", "Pleural effusion is present with a probability of 0.742."),
    (CHEST, "E2", "Pericardial effusion is present."),
    (CHEST, "E1", "Pneumothorax."),
    (CHEST, "E1", "Pneumothorax is present."),
    (CHEST, "E1", "Pneumothorax cannot be excluded."),
    (CHEST, "E1", "Tension pneumothorax is absent."),
    (CHEST, "E1", "No pneumothorax, and pleural effusion is absent."),
    (CHEST, "E1 E2", "No pneumothorax or pleural effusion."),
    (CHEST, "E1 E2", "No pneumothorax and pleural effusion."),
    (CHEST, "E1 E2", "Pneumothorax is present without pleural effusion."),
    (CHEST, "E1 E2", "There is pneumothorax but no pleural effusion."),
    (CHEST, "E1 E2", "Neither pneumothorax nor pleural effusion is seen."),
    (CHEST, "E1 E5", "No pneumothorax, but a fracture is seen."),
    (CHEST, "E3", "Cardiomegaly is present."),
    (CHEST, "E3", "The heart is normal in size."),
    (CHEST, "E3", "No cardiomegaly."),
    (CHEST, "E3", "Cardiomegaly has progressed."),
    (CHEST, "E4", "Consolidation is new."),
    (CHEST, "E4", "Consolidation is present in the liver."),
    (CHEST, "E4", "Consolidation consistent with pneumonia."),
    (CHEST, "E5", "No rib fracture."),
    (CHEST, "E5", "Healed fracture."),
    (CHEST, "E7", "No lung lesion."),
    (CHEST, "E7", "A lung lesion is absent."),
    (CHEST, "E1 E2 E3 E4 E5 E6", "The chest radiograph is otherwise unremarkable."),
    (LUNGS, "E1", "The right lung has a volume of 2210 ml."),
    (LUNGS, "E1", "The left lung has a volume of 2210 cm."),
    (LUNGS, "E1 E3", "Lung volumes are 2688 ml on the left and 2210 ml on the right."),
    (LUNGS, "E1", "Both lungs have a volume of 2210 ml."),
    (LUNGS, "E1", "The left lung is normal in volume, 2210 ml."),
    (LUNGS, "E1", "The lung has a volume of 2210 ml."),
    (LUNGS, "E2", "Mean attenuation of the left lung is 812 HU."),
    (LUNGS, "E5", "The volume of the left lung is 4898 ml."),
    (LUNGS, "E2", "The left lung has a mean attenuation of -812 HU, indicating emphysema."),
    (HAND, "E1", "The bone age is 131.6 years."),
    (HAND, "E1", "The bone age is 11.9 years."),
    (HAND, "E1", "The bone age is delayed at 131.6 months."),
    (HAND, "E2", "The z-score is 1.2."),
    (HAND, "E1 E2", "The bone age is -1.2 months with a z-score of 131.6."),
    (EMBOLISM, "E1", "No pulmonary embolism."),
    (EMBOLISM, "E1", "Pulmonary embolism cannot be excluded."),
    (EMBOLISM, "E1", "Acute pulmonary embolism is present."),
    (EMBOLISM, "E1", "Pulmonary embolism in the left pulmonary artery."),
    (EMBOLISM, "E1 E3", "Pulmonary embolism with an obstruction index of 93.6 %."),
    (EMBOLISM, "E1 E2", "Pulmonary embolism with a clot volume of 3.42 mm."),
    (EMBOLISM, "E1", "Pulmonary embolism with right heart strain."),
    (NOTHING, "E1", "The lungs are clear."),
    (NOTHING, "E1", "A nodule was found."),
    (NOTHING, "E1", "Nodules are absent."),
    (NOTHING, "E2", "Nodule 4 has resolved."),
    (NOTHING, "E2", "Nodule 4 is seen."),
    (NOTHING, "E2", "Nodule 4, 0.12 ml 90 days ago, is no longer detected."),
)  # fmt: skip
