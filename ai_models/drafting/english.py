"""The English that the guard knows. What is not here, and not in the evidence, it does not accept.

Each entry is a phrase; reading takes the longest that fits. A word that would add a fact has no
place among the fillers: a size in words, a cause, an advice, a degree.
"""

from __future__ import annotations

# Words that say nothing of a finding.
FILLERS = """
a|an|the|is|are|was|were|be|been|being|has|have|had|having|there|it|its|their|they|this|that|these
those|which|of|with|on|at|for|in|within|by|as|also|here|and its|now
remains|remain|remained|remaining|measures|measure|measuring|measured|measurement|measurements
shows|show|showing|shown|demonstrates
demonstrate|demonstrating|demonstrated|reveals|reveal|revealing|has a|contains|involves|involving
computed|calculated|reported|report|reports|quantified|determined|estimated|given|amounts|amounting
corresponds|corresponding|equals|totals|totalling|totaling|reads|reading|gives|comes|located|lying|situated
examination|exam|study|images|image|scan|series|imaging|ct|mri|mr|radiograph|radiographs|x ray
present examination|present study|present scan|present images|current examination|current study
current scan|current images|current|currently|model|algorithm|software|analysis|automated
automatic|automatically|classifier|network|finding|findings|impression|result|results|regarding
approximately|about|around|roughly|circa|ca|approx|interval|value|values|level|number
category|type|region|side|lesion count|rated|graded|classified
scored|appearance|appears|appear|appearing|deemed|considered|regarded|stands|observed value
where|according|based|assigned|labelled|labeled|characterised|characterized|described|consistency
density type|morphology|total|overall|over time|long and short axis|long by short axis|did|does|do
up to|last|past|combined|indicate|indicates
indicating|indicated|together|taken together|respective|sum|presence|according to|in keeping
equal to|range|went|become|becomes|became|lies|lie|then|such|overall size|reach|reached
extent|identification
in this|on this|time|period|course|within a|a total of|dimension
"""
# Presence, absence and doubt.
PRESENT = """
suggestive of|findings suggest|findings suggesting|images suggest|indicative of|present|positive
positive for|exists|evident|likely|probable
probably|consistent with
compatible with|in keeping with|identifiable
"""
FOUND = """
found|find|can be seen|can be found
seen|see|detected|detect|identified|identify|visible|noted|observed|visualised
visualized|demonstrable|depicted
discernible|recognised|recognized|picked up|located by|segmented|delineated
"""
ABSENT = """
absent|negative for|negative|free of|absence of|lack of|lacking|devoid of|unlikely|improbable
"""
UNDETERMINED = """
undetermined|indeterminate|inconclusive|equivocal|uncertain|unclear|possible|possibly|questionable
may|might|could|cannot be excluded|can not be excluded|could not be excluded|cannot be ruled out
can not be ruled out|could not be ruled out|not excluded|not ruled out|cannot be determined
can not be determined|could not be determined|not determined|cannot be decided|not certain
not clear|neither confirmed nor excluded|remains open|remain open|suspected|suspicion of
is not settled|cannot be settled|undecided|cannot be confirmed or excluded|not conclusive
cannot determine|can not determine|could not determine|unable to determine
neither present nor absent|can neither be confirmed nor excluded
in the undetermined range|undetermined range|between the thresholds
"""
NOT_ANALYSED = """
not analysed|not analyzed|not assessed|not evaluated|not answered|could not be assessed
cannot be assessed|could not be evaluated|cannot be evaluated|could not be analysed
could not be analyzed|cannot be answered|could not be answered|not assessable|not evaluable
not been analysed|not been analyzed|not been assessed|not been evaluated
"""
NEGATORS = "no|not|without|nor|neither|none of|never|non|cannot|isn t|aren t|wasn t|weren t"
EVIDENCE_OF = """
presence of|evidence of|evidence for|sign of|signs of|indication of|indications of|suggestion of
hint of
trace of|findings of|finding of|focus of
"""
# What became of a finding.
CHANGES = {
    "grown": """
        grown|growth|growing|increased|increase|increasing|larger|bigger|enlarged since|enlarging
        enlarged|enlargement|interval growth|grew|progressed in size|expanded|has increased
        increase in size|increased in size|increased in volume|gained volume|risen|rose
    """,
    "shrunk": """
        shrunk|shrunken|shrinkage|shrinking|decreased|decrease|decreasing|smaller|shrank|reduced
        reduction|regressed in size|decrease in size|decreased in size|decreased in volume|declined
        diminished|lost volume|fallen|fell|dropped
    """,
    "steady": """
        unchanged|stable|steady|stability|constant|unaltered|same size|same volume|static
        not changed by more than the error of measurement|remains unchanged|remained unchanged
        within the error of measurement|within measurement error|similar in size|similar in volume
        no significant change|no relevant change|no change beyond measurement error
        no change beyond the error of measurement|no interval change|without interval change
        not significantly changed|not relevantly changed|has not changed significantly
    """,
    "new": "new|newly|newly appeared|interval appearance of|not present before|not seen before",
    "gone": """
        can no longer be identified|can no longer be seen|can no longer be found
        can no longer be detected|could no longer be identified|could no longer be found
        no longer seen|no longer found|no longer detected|no longer visible|no longer identified
        not found any more|not seen any more|not detected any more|not found anymore
        not seen anymore|not detected anymore|not found again|not seen again|not detected again
        not redetected|not re identified|no longer demonstrable|not identified any more
    """,
    "beyond_earlier": """
        not in the earlier images|outside the earlier images|not covered by the earlier images
        not covered by the earlier examination|outside the field of the earlier examination
        not covered by the prior examination|not covered before|outside the earlier field of view
        not imaged before|not covered by the previous examination|not included before
        not included in the earlier images|not included in the earlier examination
        not included in the prior examination|not in the field of the earlier examination
    """,
    "beyond_present": """
        not in the present images|outside the present images|not covered by the present images
        not covered by the present examination|outside the field of the present examination
        not covered by the current examination|outside the present field of view|not imaged now
    """,
}
CHANGE_NOUNS = "change|changed|changes|changing|altered|different|difference|alteration"
# An earlier examination: a number beside it is one of then.
EARLIER = """
previously|than before|previously seen|previously noted|previously detected|ago|known|before
earlier|prior|previous|formerly|prior volume|previous volume|earlier volume
at the earlier examination|at the prior examination|at the previous examination|originally|was once
on the prior|on the earlier examination|on the prior examination|on the previous examination
compared with|compared to|in comparison with|in comparison to|relative to|versus|vs|since|as against
prior examination|previous examination|earlier examination|prior study|previous study|earlier study
prior scan|previous scan|earlier scan|after|comparison
"""
# Numbers of what they follow or precede.
QUANTITIES = {
    "long axis": """
        long|long axis|longest axis|longest diameter
        long axis diameter|maximum diameter|maximal diameter
        diameter|diameters|largest diameter|greatest diameter|length|major axis
        longest dimension|largest dimension|greatest dimension|maximum dimension|long diameter
        across its long axis
        greatest extent|longest extent
    """,
    "size": "in size|size",
    "short axis": """
        short axis|shortest axis|short axis diameter|short diameter|minor axis|width|wide
        perpendicular|perpendicular diameter|smallest diameter|across the long axis
        orthogonal diameter
    """,
    "volume": "volume|volumes|volumetry|in volume|volumetrically|volumetric size",
    "area": "area|surface|section|largest section|cross section|cross sectional area|largest area",
    "mean attenuation": """
        mean attenuation|attenuation|mean density|density|average attenuation|average density
        mean hounsfield value|mean hu|mean attenuation coefficient|hounsfield value|mean ct number
    """,
    "standard deviation of attenuation": """
        standard deviation|standard deviation of attenuation|attenuation standard deviation
        standard deviation of the attenuation|deviation|spread of attenuation|sd|sd of attenuation
    """,
    "probability": """
        probability|likelihood|score|scores|model score|predicted probability|probabilities
        probability of|likelihood of|score for|score of|probability for
        model probability|estimated probability
    """,
    "volume doubling time": """
        volume doubling time|doubling time|vdt|doubles in|doubling in|doubles every|doubling every
    """,
    "solid part": """
        solid part|solid fraction|solid portion|solid component|fraction of volume that is solid
        solid share
    """,
    "threshold": "threshold|thresholds|cut off|cutoff|operating point|decision threshold",
}
ABOVE = "above|exceeds|exceeding|over|at or above|beyond|higher than|greater than|more than"
BELOW = "below|under|lower than|less than|beneath|does not reach|short of"
# A finding whose status is only told by its number: "the probability of X is 0.03".
NEUTRAL = """
probability of|likelihood of|score for|score of|probability for|scores for|probability|score
predicted probability of|estimated probability of|model probability of|model score for
predicted probability|estimated probability|likelihood
"""
SIDES = {
    "left": "left|left sided|left side|on the left|leftward",
    "right": "right|right sided|right side|on the right|rightward",
    "both": "both|bilateral|bilaterally|both sides|on both sides",
}
COUNTS = {
    "1": "one|single|a single|solitary|a solitary|only one|exactly one",
    "2": "two|a pair of|exactly two",
    "3": "three", "4": "four", "5": "five", "6": "six", "7": "seven", "8": "eight", "9": "nine",
    "10": "ten", "11": "eleven", "12": "twelve",
}
ADJECTIVES = """
pulmonary=lung|pleural=pleura|hepatic=liver|renal=kidney|cerebral=brain|intracranial=brain
cardiac=heart|splenic=spleen|mediastinal=mediastinum|thoracic=chest|aortic=aorta
pancreatic=pancreas|prostatic=prostate|cranial=head|meningeal=meninge|mammary=breast|hilar=hilum
vertebral=vertebra|intrapulmonary=lung|cerebellar=cerebellum|adrenal=adrenal gland
"""
# Words of places: known so that a wrong one is called by its name.
PLACES = """
lung|pleura|liver|kidney|brain|heart|spleen|mediastinum|chest|thorax|aorta|pancreas|prostate|breast
hand|wrist|wrist joint|pituitary|meninge|head|neck|abdomen|pelvis|bladder|colon|stomach|bone|rib
spine|vertebra|hip|knee|shoulder|ankle|foot|skull|sinus|trachea|bronchus|esophagus|diaphragm
upper lobe|lower lobe|middle lobe|lobe|lingula|apex|base|apical|basal|hilum|costophrenic angle
frontal lobe|parietal lobe|temporal lobe|occipital lobe|cerebellum|brainstem|ventricle|gallbladder
adrenal gland|thyroid|uterus|ovary|pulmonary artery|artery|vein|airway|subcutaneous|soft tissue
hand bone|upper|lower|anterior|posterior|superior|inferior|central|peripheral|axilla|cortex
"""
# What no evidence of this node can say, however likely it is.
OVERCLAIMS = """
normal|unremarkable|healthy|clear|excluded|ruled out|confirmed|definite|definitely|certain|certainly
proven|diagnostic|diagnosis|no abnormality|no abnormalities|no acute|malignant|malignancy|benign
cancer|metastasis|metastases|metastatic|resolved|resolution|disappeared|vanished|gone|cured|healed
recommend|recommended|recommendation|advise|advised|suggest|suggests|biopsy|follow up|should|must
urgent|urgently|severe|moderate|mild|small|large|tiny|huge|massive|subtle|significant|acute|chronic
worrisome|concerning for|suspicious|likely benign|likely malignant|progression|progressive|remission
improved|improvement|worse|worsened|worsening|multiple|several|numerous|few|many|all|every|some
everything|nothing|unaffected|intact|undoubtedly|clearly|obviously|sure|surely|proves
"""
# Spellings that are one word.
SPELLINGS = {
    "tumor": "tumour", "edema": "oedema", "oesophagus": "esophagus", "oesophageal": "esophageal",
    "millimetre": "mm", "millimeter": "mm", "centimetre": "cm", "centimeter": "cm",
    "millilitre": "ml", "milliliter": "ml", "cc": "ml", "lungs": "lung", "washout": "wash out",
    "groundglass": "ground glass", "emboli": "embolism", "embolus": "embolism",
    "pneumothoraces": "pneumothorax", "axes": "axis", "vertebrae": "vertebra",
    "percentage": "%", "percent": "%", "pct": "%", "hounsfield": "hu", "pneumonias": "pneumonia",
    "hemorrhage": "haemorrhage", "hematoma": "haematoma", "ischemia": "ischaemia",
    "effusions": "effusion", "metres": "metre", "analyzed": "analysed", "meninges": "meninge",
}
# Other names of findings that the templates know.
SYNONYMS = {
    "cardiomegaly": ("enlarged heart", "cardiac enlargement", "enlargement of the heart"),
    "pulmonary embolism": ("pe", "lung embolism"),
    "pulmonary oedema": ("lung oedema",),
    "low bone density": ("osteopenia", "reduced bone density", "decreased bone density"),
    "enlarged cardiomediastinum": (
        "widened mediastinum", "mediastinal widening", "enlarged mediastinum",
    ),
    "lesion with wash out": ("lesion with washout enhancement curve", "wash out lesion"),
    "pleural effusion": ("effusion of the pleura",),
    "pleural thickening": ("thickening of the pleura", "thickened pleura"),
    "nodule": ("lung nodule", "pulmonary nodule"),
    "ground glass opacity": ("ground glass", "ground glass density"),
    "part solid": ("partly solid", "subsolid with solid part", "partially solid", "semi solid"),
    "hiatal hernia": ("hiatus hernia",),
    "lung": ("pulmonary volume",),
}
# To canonical units and factors: mm, mm2, ml, HU, %, days.
UNIT_WORDS = {
    "mm": ("mm", 1.0), "cm": ("mm", 10.0), "mm2": ("mm2", 1.0), "cm2": ("mm2", 100.0),
    "ml": ("ml", 1.0), "cm3": ("ml", 1.0), "mm3": ("ml", 0.001), "l": ("ml", 1000.0),
    "litre": ("ml", 1000.0), "liter": ("ml", 1000.0), "hu": ("hu", 1.0), "%": ("%", 1.0),
    "d": ("d", 1.0), "day": ("d", 1.0), "week": ("d", 7.0), "month": ("d", 30.4375),
    "year": ("d", 365.25), "yr": ("d", 365.25), "mo": ("d", 30.4375),
}


def phrases(text: str) -> list[str]:
    """The phrases of one of the lists above."""
    return [one.strip() for line in text.strip().splitlines() for one in line.split("|")
            if one.strip()]
