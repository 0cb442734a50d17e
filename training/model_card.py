"""The text of MODEL_CARD.md (Mitchell et al., "Model cards for model reporting", 2019).

Only facts that follow from the inputs: no clock, so that equal inputs give an equal bundle.
"""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from training.cases import Cases
from training.data.manifest import About
from training.evaluate import Row
from training.feedback import sentence
from training.figures import markdown
from training.recipe import Recipe

SPLIT = {
    "leave_one_out": "of each user's likes the last is for test, the one before it for validation",
    "temporal": "the newest tenth of all likes is for test, the tenth before it for validation",
}
"""What is held out, in words."""


def model_card(cases: Cases, about: About, recipe: Recipe, validation: Sequence[Row]) -> str:
    data = cases.data
    events, (first, last) = data.events, data.window
    schema = data.schema
    return f"""# Marquee on {about.name}

## What it is
A recommender in stages. {_stages(recipe)}

## Data
- {about.name}: {len(data.every):,} interactions, {len(events.user_ids):,} users, {data.n_items:,} items.
- Seen and disliked: {sentence(data.feedback, len(data.every) - len(events), len(data.every))}.
- Source: {about.source}
- Licence: {about.licence}
- Split: {SPLIT[recipe.split]}; the other {len(data.train):,} events train every model of this bundle
  ({first} to {last}).
- When it serves, users' histories and statistics hold all events, the held-out ones too. `marquee evaluate`
  takes them back out for its figures.
{"".join(f"- Note: {note}." + chr(10) for note in data.notes)}
## Inputs
- User: {_listed([feature.name for feature in schema.user])}.
- Item: {_listed([feature.name for feature in schema.item])}.
- Left out, their type is not understood: {_listed(schema.ignored)}.
- Feature schema {schema.fingerprint()[:12]}.

## Validation
Every item of the catalogue that could be shown is ranked, offline, right after training: {cases}.
Every choice of the recipe was made on figures like these; those of the test events, from the served pipeline,
are in the manifest once `marquee evaluate` has run.

{markdown(validation)}

## Recipe
```yaml
{_settings(recipe)}```

## Intended use, and what it is not for
Ranking a catalogue for people by what they did before. Not for decisions about people. It knows only what
was recorded: items that few have met, users unlike the recorded ones, and tastes that changed after
{last[:10]} are served worse. Popular items are favoured beyond their merit, as in any log of choices.
Attributes of users among the inputs (age, gender, occupation, where the data has them) can change what is
shown; leave their columns out of the users table where that is not wanted.
"""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


def _stages(recipe: Recipe) -> str:
    """What `recommend` consists of, a role at a time."""
    stages = recipe.pipelines.recommend.stages
    roles = dict.fromkeys(stage.role for stage in stages)
    of = {role: [f"{each.name} ({each.kind})" for each in stages if each.role == role] for role in roles}
    return "; ".join(f"{role}: {', '.join(names)}" for role, names in of.items()) + "."


def _settings(recipe: Recipe) -> str:
    return str(yaml.safe_dump(recipe.model_dump(mode="json", exclude_defaults=True), sort_keys=False))
